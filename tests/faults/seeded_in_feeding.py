"""Bugs in formats, samplers, the loader, packed rows and training."""

from __future__ import annotations

from seeded import SeededBug

_CORE = "src/tokpack/"
_PLUGINS = "plugins/tokpack-"

BUGS = [
    SeededBug(
        "npy: bytes after the array are passed over",
        _CORE + "npy_file.py",
        "    if size != expected:\n",
        "    if size < expected:\n",
        ("tests/formats/test_npy.py::test_bytes_after_the_array_are_refused",),
    ),
    SeededBug(
        "jsonl: lists within lists are read as one",
        _CORE + "formats/jsonl.py",
        ' or raw.count(b"[") != 1',
        "",
        ("tests/formats/test_jsonl_format.py::test_lines_that_are_no_documents",),
    ),
    SeededBug(
        "parquet: a footer's counts are believed",
        _PLUGINS + "parquet/src/tokpack_parquet/reader.py",
        "        if len(values) != expected:\n",
        "        if False:\n",
        ("plugins/tokpack-parquet/tests/test_parquet_format.py::test_a_footer_that_lies_about_tokens",),
    ),
    SeededBug(
        "arrow: what a batch expands to is not limited",
        _PLUGINS + "arrow/src/tokpack_arrow/messages.py",
        "        if total > _MAX_BATCH_BYTES:\n",
        "        if False:\n",
        ("plugins/tokpack-arrow/tests/test_arrow_source.py::test_a_batch_that_expands_too_far",),
    ),
    SeededBug(
        "megatron: places are counted in tokens",
        _PLUGINS + "megatron/src/tokpack_megatron/index.py",
        "(np.cumsum(sequences) - sequences) * self._dtype.itemsize",
        "(np.cumsum(sequences) - sequences)",
        ("plugins/tokpack-megatron/tests/test_megatron.py::test_writes_the_golden_bytes",),
    ),
    SeededBug(
        "random-block: the last window is never shown",
        _CORE + "samplers/random_block.py",
        "        self._legal_starts = len(store) - seq_len\n",
        "        self._legal_starts = len(store) - seq_len - 1\n",
        ("tests/samplers/test_exhaustive.py::test_random_block_shows_each_window_of_the_grid_once",),
    ),
    SeededBug(
        "sliding-window: the last window is left out",
        _CORE + "samplers/sliding_window.py",
        "        full = np.maximum((lengths - 1 - self.seq_len) // self.stride + 1, 0)\n",
        "        full = np.maximum((lengths - 2 - self.seq_len) // self.stride + 1, 0)\n",
        (
            "tests/samplers/test_exhaustive.py::"
            "test_sliding_window_starts_are_those_of_the_loop_everybody_writes",
        ),
    ),
    SeededBug(
        "packed: a label crosses into the next document",
        _CORE + "batches.py",
        "            labels[(here != after) | (here == 0)] = IGNORED_LABEL\n",
        "            labels[here == 0] = IGNORED_LABEL\n",
        ("tests/test_training_batch.py::test_derived_arrays_follow_their_definitions",),
    ),
    SeededBug(
        "packing: a long document that fills its rows has one more, empty",
        _CORE + "samplers/packing/documents.py",
        "(lengths[over] - 1) // seq_len",
        "lengths[over] // seq_len",
        ("tests/samplers/test_packing.py::test_every_token_is_placed_once_or_counted",),
    ),
    SeededBug(
        "packed rows: padding and tokens are exchanged",
        _CORE + "packed_rows/run.py",
        "        padding = segment_ids == 0\n",
        "        padding = segment_ids != 0\n",
        ("tests/packed_rows/test_pack.py::test_every_document_is_one_segment",),
    ),
    SeededBug(
        "mixture: a dataset begins anew with every turn of the pattern",
        _CORE + "samplers/mixture.py",
        "return parts, periods * self._counts[parts] + self._number_of[places]",
        "return parts, self._number_of[places]",
        ("tests/samplers/test_mixture.py::test_each_dataset_goes_through_its_own_rows_and_epochs",),
    ),
    SeededBug(
        "loader: the state is one step ahead",
        _CORE + "loader/loader.py",
        '            "step": self.step,\n',
        '            "step": self.step + 1,\n',
        ("tests/loader/test_loader.py::test_state_counts_what_was_handed_out_and_not_what_was_prefetched",),
    ),
    SeededBug(
        "loader: ranks see the same rows",
        _CORE + "loader/share.py",
        "step * self.global_batch_size + self.rank * self.rows_per_step",
        "step * self.global_batch_size",
        ("tests/loader/test_loader.py::test_global_batches_do_not_depend_on_the_machine",),
    ),
    SeededBug(
        "loader: an error in the thread looks like an end",
        _CORE + "loader/prefetch.py",
        "            ready.put(error)\n            return\n",
        "            return\n",
        ("tests/loader/test_loader.py::test_an_error_in_the_thread_is_raised_in_the_loop",),
    ),
    SeededBug(
        "checkpoint: its folder is not synced",
        _CORE + "train/checkpoint.py",
        "            partial.rename(final)\n            sync(self.directory)\n",
        "            partial.rename(final)\n",
        ("tests/faults/test_checkpoints.py::test_the_power_goes[first-500]",),
    ),
    SeededBug(
        "checkpoint: files are not synced",
        _CORE + "train/checkpoint.py",
        "        sync(path)\n",
        "",
        ("tests/faults/test_checkpoints.py::test_the_power_goes[first-500]",),
    ),
    SeededBug(
        "checkpoint: a hash is not compared",
        _CORE + "train/checkpoint.py",
        "        if _sha256(path) != digest:\n",
        "        if False:\n",
        ("tests/train/test_checkpoint.py::test_damage_is_refused_and_nothing_runs[damage_bit]",),
    ),
    SeededBug(
        "loss: what is masked is trained, and the other way round",
        _CORE + "train/loss.py",
        "            valid = wanted != IGNORE_INDEX\n",
        "            valid = wanted == IGNORE_INDEX\n",
        ("tests/train/test_loss_and_optim.py::test_chunked_loss_and_gradients_equal_the_whole",),
    ),
]
