"""Bugs in what is written, resumed, described and verified."""

from __future__ import annotations

from seeded import SeededBug

_CORE = "src/tokpack/"
_PLUGINS = "plugins/tokpack-"

BUGS = [
    SeededBug(
        "publish: the content is not synced before its name appears",
        _CORE + "dataset/publish.py",
        "        os.fsync(self._file.fileno())\n",
        "        pass\n",
        ("tests/faults/test_power_loss.py::test_the_power_goes[encode npy-10-5100]",),
    ),
    SeededBug(
        "publish: the name appears before the content",
        _CORE + "dataset/publish.py",
        "        file = HashingFile(temporary)\n",
        "        file = HashingFile(temporary)\n"
        "        temporary.rename(path)\n"
        "        temporary.symlink_to(path)\n",
        ("tests/dataset/test_publish.py::test_a_name_appears_with_its_content",),
    ),
    SeededBug(
        "publish: what the disk refuses is swallowed",
        _CORE + "dataset/publish.py",
        "        sync_directory(path.parent)\n"
        "    except OSError as error:\n"
        "        raise storage_error(error, path) from error\n",
        "        sync_directory(path.parent)\n    except OSError:\n        return\n",
        ("tests/dataset/test_publish.py::test_a_sync_that_fails_is_told",),
    ),
    SeededBug(
        "publish: a write that was cut short is taken for a whole one",
        _CORE + "dataset/publish.py",
        "        while written < len(view):  #",
        "        if written < len(view):  #",
        ("tests/dataset/test_publish.py::test_short_writes_are_continued",),
    ),
    SeededBug(
        "publish: what was written by going back is not hashed again",
        _CORE + "dataset/publish.py",
        "            self._rewritten = True\n",
        "            self._rewritten = False\n",
        ("tests/dataset/test_publish.py::test_going_back_is_hashed_rightly",),
    ),
    SeededBug(
        "lock: two processes share it",
        _CORE + "dataset/publish.py",
        "fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        ("tests/dataset/test_publish.py::test_a_lock_names_its_owner_and_dies_with_it",),
    ),
    SeededBug(
        "commit: the name of the dataset is not synced",
        _CORE + "encoding/workspace.py",
        "            sync_directory(self.output.parent)\n",
        "",
        ("tests/faults/test_power_loss.py::test_the_power_goes[encode npy-10-5100]",),
    ),
    SeededBug(
        "exchange: a failure half way is not undone",
        _CORE + "dataset/publish.py",
        "    except OSError:\n        aside.rename(old)\n        raise\n",
        "    except OSError:\n        raise\n",
        ("tests/dataset/test_publish.py::test_an_exchange_that_fails_is_undone",),
    ),
    SeededBug(
        "commit: what an undone exchange has put back is written over",
        _CORE + "encoding/workspace.py",
        "        _check_free(output, overwrite)  # restored",
        "        # restored",
        ("tests/dataset/test_publish.py::test_what_an_undone_exchange_put_back_is_not_written_over",),
    ),
    SeededBug(
        "resume: other options continue the work",
        _CORE + "encoding/workspace.py",
        "    return None if before == now else f",
        "    return None if True else f",
        ("tests/encoding/test_interruption.py::test_other_options_do_not_continue_the_work",),
    ),
    SeededBug(
        "resume: the unit in which a shard ended is left out",
        _CORE + "encoding/assemble.py",
        "(record.next_unit, record.next_document)",
        "(record.next_unit + 1, 0)",
        ("tests/faults/test_operations.py::test_a_fault_at_every_operation[resume bin]",),
    ),
    SeededBug(
        "resume: documents that are in a shard already are written again",
        _CORE + "encoding/assemble.py",
        "skip = start_document if unit.index == start_unit else 0",
        "skip = 0",
        ("tests/faults/test_operations.py::test_a_fault_at_every_operation[resume bin]",),
    ),
    SeededBug(
        "resume: a piece that a crash has torn is believed",
        _CORE + "encoding/pieces.py",
        "        if checksum != expected:\n            return False\n",
        "",
        ("tests/encoding/test_parts.py::test_a_piece_that_a_crash_has_torn_is_found",),
    ),
    SeededBug(
        "resume: a changed source is not noticed",
        _CORE + "encoding/run.py",
        "            if slice_digest(part.slice) != digest:",
        "            if False:",
        ("tests/encoding/test_interruption.py::test_a_changed_source_is_noticed",),
    ),
    SeededBug(
        "encode: the report of broken documents is not counted",
        _CORE + "encoding/unit.py",
        "                    problems += len(encoded.problems)\n",
        "",
        ("tests/encoding/test_encode_command.py::test_every_broken_document_is_counted_and_quarantined",),
    ),
    SeededBug(
        "encode: documents that are too long lose their end unasked",
        _CORE + "encoding/lengths.py",
        "    pieces = np.maximum(1, -(-lengths // limit))\n",
        "    pieces = np.maximum(1, lengths // limit)\n",
        ("tests/encoding/test_parts.py::test_split_loses_nothing_and_moves_nothing",),
    ),
    SeededBug(
        "source: the last document is lost where no line end follows it",
        _CORE + "sources/pieces.py",
        "    if data and not lost and position < stop:\n",
        "    if False:\n",
        ("tests/sources/test_jsonl.py::test_each_kind_of_line",),
    ),
    SeededBug(
        "source: the line at a slice's edge belongs to both slices",
        _CORE + "sources/pieces.py",
        "np.searchsorted(starts, stop - position))",
        'np.searchsorted(starts, stop - position, side="right"))',
        ("tests/sources/test_jsonl.py::test_every_slice_size",),
    ),
    SeededBug(
        "boundaries: EOS stands before the document",
        _CORE + "tokenizers/boundaries.py",
        "return surround_batch(batch, prefix=prefix, suffix=suffix)",
        "return surround_batch(batch, prefix=suffix, suffix=prefix)",
        ("tests/tokenizers/test_boundaries.py::test_against_lists",),
    ),
    SeededBug(
        "dtype: one too narrow for the vocabulary is accepted",
        _CORE + "dtypes.py",
        "    if vocab_size > np.iinfo(dtype).max + 1:\n",
        "    if False:\n",
        ("tests/test_mission.py::test_a_dtype_too_narrow_for_the_vocabulary_is_refused",),
    ),
    SeededBug(
        "tokenizer: an engine is not proved with special tokens",
        _CORE + "tokenizers/probe.py",
        '_POLICIES: tuple[Special, ...] = ("text", "parse")',
        '_POLICIES: tuple[Special, ...] = ("text", "text")',
        ("tests/tokenizers/test_probe.py::test_special_tokens_outside_the_probe_set_are_proved_too",),
    ),
    SeededBug(
        "tokenizer: the SHA-256 of a ranks file is not compared",
        _PLUGINS + "tiktoken/src/tokpack_tiktoken/files.py",
        "    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:\n",
        "    if False:\n",
        ("plugins/tokpack-tiktoken/tests/test_tokenizer.py::test_a_truncated_ranks_file_never_opens",),
    ),
    SeededBug(
        "tokenizer: what normalises text is no part of the fingerprint",
        _PLUGINS + "sentencepiece/src/tokpack_sentencepiece/model.py",
        "            digest.update(item.raw)\n            if item.number == _NORMALIZER:\n",
        "            if item.number == _NORMALIZER:\n",
        (
            "plugins/tokpack-sentencepiece/tests/test_sentencepiece.py::test_the_digest_is_of_what_decides_ids",
        ),
    ),
    SeededBug(
        "manifest: an edited one is accepted",
        _CORE + "dataset/manifest.py",
        "    if manifest.to_bytes() != content:\n",
        "    if False:\n",
        ("tests/dataset/test_manifest.py::test_anything_else_is_refused_by_name",),
    ),
    SeededBug(
        "verify: one hash is not compared",
        _CORE + "dataset/verify.py",
        "            elif result.blocks[0].hex() != files[stretch.relative].sha256:\n",
        "            elif False:\n",
        ("tests/dataset/test_verify.py::test_the_bad_file_is_named[npy]",),
    ),
    SeededBug(
        "verify: files that nobody named are passed over",
        _CORE + "dataset/verify.py",
        "sorted(found - expected)",
        "sorted(found - found)",
        ("tests/dataset/test_verify.py::test_added_files_are_found[bin]",),
    ),
    SeededBug(
        "digest: documents of other lengths have the same",
        _CORE + "dataset/digest.py",
        '        self._streams["lengths"].update(batch.lengths.astype("<i8", copy=False))\n',
        "",
        ("tests/dataset/test_store.py::test_the_digest_does_not_depend_on_batches_or_dtype",),
    ),
    SeededBug(
        "store: a window across two shards is taken from the first",
        _CORE + "dataset/axis.py",
        "        inside = starts + length <= edges[np.minimum(shards + 1, len(self._gatherers))]\n",
        "        inside = starts + length <= edges[np.minimum(shards + 1, len(self._gatherers))] + 1\n",
        ("tests/dataset/test_store.py::test_gathering_windows",),
    ),
    SeededBug(
        "store: a shard that is a link is followed",
        _CORE + "dataset/store.py",
        "        if path.is_symlink() or not path.is_file():\n",
        "        if not path.is_file():\n",
        ("tests/dataset/test_store.py::test_a_link_is_not_followed",),
    ),
    SeededBug(
        "convert: what was written is not read back",
        _CORE + "encoding/convert.py",
        "        if digest.hexdigest() != store.fingerprint:\n",
        "        if False:\n",
        ("tests/encoding/test_convert.py::test_a_format_that_loses_something_is_found_out",),
    ),
]
