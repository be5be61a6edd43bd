"""Reading real texts: the digests of `shared/data/expected.json`."""

from __future__ import annotations

import hashlib
import json
import struct

import pytest

from tokpack.protocols import SourceOptions
from tokpack.sources import jsonl, text
from tokpack.testing import shared_data

SPLITS = {"text": "file", "lines": "lines", "endoftext": "auto"}


@pytest.mark.parametrize("slice_bytes", [1 << 30, 20_011])
def test_documents_equal_the_reference(slice_bytes):
    folder = shared_data()
    wanted = json.loads((folder / "expected.json").read_text())["texts"]
    checked = 0
    for entry in json.loads((folder / "manifest.json").read_text())["texts"]:
        rule, _, field = entry["rule"].partition(":")
        if rule == "jsonl":
            options = SourceOptions(text_field=field, on_error="replace")
            source = jsonl.open_source(options)
        elif rule in SPLITS:
            source = text.open_source(SourceOptions(split=SPLITS[rule]))
        else:
            continue
        digest, documents, empty = hashlib.sha256(), 0, 0
        for part in source.plan(str(folder / entry["file"]), slice_bytes=slice_bytes):
            for batch in source.read(part):
                for document in batch.texts:
                    data = document.encode()
                    digest.update(struct.pack("<I", len(data)) + data)
                    documents, empty = documents + 1, empty + (not data)
        answer = wanted[entry["name"]]
        assert (entry["name"], documents, empty) == (entry["name"], answer["docs"], answer["empty_docs"])
        assert digest.hexdigest() == answer["docs_sha256"], entry["name"]
        checked += 1
    assert checked == 27
