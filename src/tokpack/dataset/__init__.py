"""Datasets on disk: manifest, shards, publishing, reading, verifying."""
