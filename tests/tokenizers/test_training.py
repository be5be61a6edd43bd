from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tokpack import builtin
from tokpack.batches import TextBatch
from tokpack.errors import DocumentError, StorageError, UnknownPluginError, UsageError
from tokpack.hookspecs import hookimpl
from tokpack.plugins import Plugins
from tokpack.protocols import SourceOptions, TrainingOptions
from tokpack.specs import TokenizerSpec
from tokpack.tokenizers.byte import ByteTokenizer
from tokpack.tokenizers.quality import Quality, longest_tokens, measure
from tokpack.tokenizers.training import RECORD_NAME, train_tokenizer

TEXT = "héllo wörld\n日本語 " * 50


class Recorder:
    """A backend that learns nothing and remembers what it was given."""

    TOKPACK_HOOK_VERSION = 1

    @hookimpl
    def tokpack_register_tokenizers(self):
        yield TokenizerSpec("recorder", "for tests", open="x:y", train=f"{__name__}:train")


seen: list[str] = []


def train(batches, options):
    seen.clear()
    for batch in batches:
        seen.extend(batch)
        if options.progress:
            options.progress("counting", sum(map(len, seen)), 0)
    if options.progress:
        options.progress("merging", 3, 4)
    return ByteTokenizer()


@pytest.fixture
def plugins():
    found = Plugins()
    found.add(builtin, "builtin")
    found.add(Recorder(), "recorder")
    return found


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text(TEXT)
    return path


def options(**changes):
    return TrainingOptions(vocab_size=300, **changes)


def trained(inputs, output, plugins, **changes):
    settings = {"options": options(), "backend": "recorder", "plugins": plugins} | changes
    return train_tokenizer(inputs, output, **settings)


def test_every_document_of_every_source_is_given_once_and_in_order(tmp_path, plugins, text_file):
    lines = tmp_path / "more.jsonl"
    lines.write_text("".join(json.dumps({"text": f"document {i}"}) + "\n" for i in range(40)))
    result = trained([text_file, lines], tmp_path / "tok", plugins)
    assert seen == [TEXT, *(f"document {i}" for i in range(40))]
    assert result.documents == 41
    assert result.text_bytes == sum(len(text.encode()) for text in seen)
    assert result.reference == f"recorder:{tmp_path / 'tok'}"


@pytest.mark.parametrize("limit", [*range(1, 40), 10**9])
def test_limit_is_the_first_bytes_up_to_a_character(tmp_path, plugins, text_file, limit):
    result = trained(text_file, tmp_path / "tok", plugins, limit_bytes=limit)
    wanted = TEXT.encode()[:limit].decode(errors="ignore")
    assert "".join(seen) == wanted
    assert result.text_bytes == len(wanted.encode())


@pytest.mark.parametrize("limit", range(1, 31))
def test_limit_does_not_depend_on_batches(tmp_path, plugins, limit):
    documents = ["日本", "", "aé", "bcd" * 3, "🦆", "x"]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    given = []
    for batch_bytes in (1, 7, 1 << 20):
        trained(
            path,
            tmp_path / str(batch_bytes),
            plugins,
            limit_bytes=limit,
            source=SourceOptions(batch_bytes=batch_bytes),
        )
        given.append([text for text in seen if text])
    assert given[0] == given[1] == given[2]
    assert "".join(given[0]) == "".join(documents).encode()[:limit].decode(errors="ignore")


def test_folder_appears_complete_and_says_what_it_was_trained_on(tmp_path, plugins, text_file):
    for name in ("one", "two"):
        trained(text_file, tmp_path / name / "tok", plugins)
    one, two = (tmp_path / name / "tok" for name in ("one", "two"))
    assert sorted(path.name for path in one.iterdir()) == ["byte.txt", RECORD_NAME]
    assert [path.name for path in one.parent.iterdir()] == ["tok"]
    assert (one / RECORD_NAME).read_bytes() == (two / RECORD_NAME).read_bytes()
    record = json.loads((one / RECORD_NAME).read_text())
    assert record["inputs"] == [{"name": "train.txt", "bytes": len(TEXT.encode())}]
    assert (record["backend"], record["vocab_size"], record["documents"]) == ("recorder", 300, 1)


def test_existing_output_is_refused_before_anything_is_read(tmp_path, plugins, text_file):
    trained(text_file, tmp_path / "tok", plugins)
    seen.clear()
    with pytest.raises(UsageError, match=r"exists already; .* --overwrite"):
        trained(text_file, tmp_path / "tok", plugins)
    assert seen == []


def test_overwrite_replaces_a_trained_tokenizer_and_nothing_else(tmp_path, plugins, text_file):
    trained(text_file, tmp_path / "tok", plugins)
    (tmp_path / "tok" / "stale").touch()
    trained(text_file, tmp_path / "tok", plugins, overwrite=True)
    assert sorted(path.name for path in (tmp_path / "tok").iterdir()) == ["byte.txt", RECORD_NAME]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tok", "train.txt"]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").touch()
    with pytest.raises(UsageError, match="not a tokenizer that tokpack trained"):
        trained(text_file, mine, plugins, overwrite=True)
    assert (mine / "thesis.tex").exists()


def test_an_empty_folder_is_as_good_as_none(tmp_path, plugins, text_file):
    (tmp_path / "tok").mkdir()
    trained(text_file, tmp_path / "tok", plugins)
    assert (tmp_path / "tok" / RECORD_NAME).exists()


def test_a_failure_while_saving_leaves_nothing(tmp_path, plugins, text_file, monkeypatch):
    def full(path, content):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="No space left"):
        trained(text_file, tmp_path / "tok", plugins)
    assert [path.name for path in tmp_path.iterdir()] == ["train.txt"]


def test_progress_says_how_much_of_the_input_is_read(tmp_path, plugins):
    (tmp_path / "a.txt").write_text("a" * 1000)
    (tmp_path / "b.txt").write_text("b" * 500)
    heard = []
    progress = options(progress=lambda *report: heard.append(report))
    trained([tmp_path / "a.txt", tmp_path / "b.txt"], tmp_path / "tok", plugins, options=progress)
    assert heard == [("counting", 0, 1500), ("counting", 1000, 1500), ("merging", 3, 4)]


def test_quality_is_measured_on_validation_text_if_given(tmp_path, plugins, text_file):
    held_out = tmp_path / "val.txt"
    held_out.write_text("aab")
    result = trained([tmp_path / "*.txt"], tmp_path / "tok", plugins, validation=[held_out])
    assert seen == [TEXT]
    assert result.held_out
    assert result.quality == Quality(text_bytes=3, tokens=3, ids_used=2, vocab_size=257)
    assert (result.quality.bytes_per_token, result.quality.coverage) == (1.0, 2 / 257)
    alone = trained(text_file, tmp_path / "alone", plugins)
    assert not alone.held_out
    assert alone.quality.text_bytes == len(TEXT.encode())


def test_quality_of_nothing():
    quality = measure(ByteTokenizer(), [TextBatch.from_texts([])])
    assert (quality.bytes_per_token, quality.coverage) == (0.0, 0.0)


def test_longest_tokens_leave_special_ones_out():
    assert longest_tokens(ByteTokenizer(), 2) == [(0, b"\x00"), (1, b"\x01")]


def test_problems_are_counted(tmp_path, plugins):
    path = tmp_path / "broken.jsonl"
    path.write_text('{"text": "good"}\n{"text": \n{"other": 1}\n')
    with pytest.raises(DocumentError, match=r"broken\.jsonl"):
        trained(path, tmp_path / "tok", plugins)
    result = trained(path, tmp_path / "tok", plugins, source=SourceOptions(on_error="skip"))
    assert seen == ["good"]
    assert sum(result.problems.values()) == 2


def test_what_cannot_be_done_is_refused_by_name(tmp_path, plugins, text_file):
    with pytest.raises(UsageError, match="'byte' cannot be trained; these can: recorder"):
        trained(text_file, tmp_path / "tok", plugins, backend="byte")
    with pytest.raises(UnknownPluginError, match="pip install tokpack-bpe"):
        trained(text_file, tmp_path / "tok", plugins, backend="bpe")
    with pytest.raises(UsageError, match="--limit-bytes is 0"):
        trained(text_file, tmp_path / "tok", plugins, limit_bytes=0)
    with pytest.raises(StorageError, match=r"absent\.txt"):
        trained(tmp_path / "absent.txt", tmp_path / "tok", plugins)
    assert not (tmp_path / "tok").exists()
