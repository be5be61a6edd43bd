"""From text to a dataset: plan units of work, run them, assemble shards, commit."""
