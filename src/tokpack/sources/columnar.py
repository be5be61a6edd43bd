"""Text columns of Arrow data as documents, for every source that reads with pyarrow.

Documents go from the column's buffers into a `TextBatch`; no Python string is made on the way. The data is
not trusted: offsets and dictionary indices are checked before anything follows them, and what a batch would
expand to is known before it is built. pyarrow is no dependency of tokpack; import this module from a plugin.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tokpack.batches import TextBatch
from tokpack.errors import DamagedError, UsageError
from tokpack.protocols import Problem, SourceBatch, SourceOptions
from tokpack.sources.problems import describe_ill_formed, settle

__all__ = ["find_text_column", "is_text", "text_batches"]

_ROWS = 1 << 16  # looked at together
_FLAT = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


def is_text(kind: pa.DataType) -> bool:
    """Tell whether a column of this type can hold documents: strings or bytes, dictionary-encoded or not."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return kind in _FLAT or kind in (pa.string_view(), pa.binary_view())


def column_names(schema: pa.Schema, *, path: str) -> list[str]:
    """Return the names of a file's columns.

    Raises:
        DamagedError: they are not UTF-8.
    """
    try:
        return list(schema.names)
    except UnicodeDecodeError as error:
        raise DamagedError(
            f"{path} has column names that are no text: {error}; get the file again"
        ) from error


def find_text_column(schema: pa.Schema, name: str, *, path: str) -> tuple[str, ...]:
    """Return the way to the column called ``name``: one step, or several where it is dotted into structs.

    Raises:
        UsageError: no such column, or it holds no text; the message says which columns do.
        DamagedError: the names of the columns are not UTF-8.
    """
    names = column_names(schema, path=path)
    steps = (name,) if name in names else tuple(name.split("."))
    kind: pa.DataType = pa.struct(schema)
    for step in steps:
        if not pa.types.is_struct(kind) or kind.get_field_index(step) < 0:
            raise UsageError(f"{path} has no column {name!r}; {_choice(schema)}")
        kind = kind.field(step).type
    if not is_text(kind):
        raise UsageError(f"column {name!r} of {path} holds {str(kind)[:80]}, not text; {_choice(schema)}")
    return steps


def text_batches(
    column: pa.Array, *, path: str, first_row: int, options: SourceOptions
) -> Iterator[SourceBatch]:
    """Yield the rows of ``column`` as documents, in batches of about ``options.batch_bytes``.

    Positions are row numbers, counted from ``first_row``. Nulls are skipped and reported.

    Raises:
        DamagedError: the column's offsets or indices contradict its data.
        DocumentError: a row is too long or not UTF-8, and ``on_error`` is ``fail``.
    """
    for at in range(0, len(column), _ROWS):
        yield from _batches(column.slice(at, _ROWS), path, first_row + at, options)


def _batches(column: pa.Array, path: str, first_row: int, options: SourceOptions) -> Iterator[SourceBatch]:
    lengths = _byte_lengths(column, path)
    present = _present(column)
    fits = lengths <= options.max_document_bytes
    for start, stop in _pieces(np.where(fits, lengths, 0), options.batch_bytes):
        keep = present[start:stop] & fits[start:stop]
        rows = np.arange(first_row + start, first_row + stop, dtype=np.int64)
        gone = ~keep
        missing = _missing(rows[gone], lengths[start:stop][gone], present[start:stop][gone], path, options)
        kept = _flat(column.slice(start, stop - start), keep)
        texts, bad = _settle(kept, rows[keep], path, options)
        problems = sorted([*missing, *bad], key=lambda problem: problem.position)
        skipped = [problem.position for problem in bad if problem.action == "skipped"]
        yield SourceBatch(texts, np.setdiff1d(rows[keep], skipped, assume_unique=True), tuple(problems))


def _choice(schema: pa.Schema) -> str:
    texts = [field.name for field in schema if is_text(field.type)]
    columns = ", ".join(f"{field.name} ({str(field.type)[:40]})" for field in list(schema)[:20]) or "none"
    advice = f"choose one with --text-field, such as {texts[0]!r}" if texts else "none of them holds text"
    return f"its columns are: {columns}; {advice}"


def _present(column: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(column.is_valid().to_numpy(zero_copy_only=False), dtype=np.bool_)


def _byte_lengths(column: pa.Array, path: str) -> NDArray[np.int64]:
    """Return the bytes of each row (0 for a null) after checking that the column can be followed safely."""
    try:
        # O(1) for flat columns; the offsets follow below, the text later. Indices and views are checked here.
        column.validate(full=column.type not in _FLAT)
    except (pa.ArrowInvalid, OSError) as error:
        raise DamagedError(f"{path} is damaged: {error}; get the file again") from error
    if pa.types.is_dictionary(column.type):
        lengths = _byte_lengths(column.dictionary, path)
        indices = pc.fill_null(column.indices.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
        found = lengths[indices] if len(lengths) else np.zeros(len(column), np.int64)
        return np.where(_present(column), found, 0)
    if column.type in _FLAT:
        offsets, data = _buffers(column)
        if offsets[0] < 0 or offsets[-1] > len(data) or (np.diff(offsets) < 0).any():
            raise DamagedError(f"{path} is damaged: its text offsets do not rise; get the file again")
        lengths = np.diff(offsets).astype(np.int64)
        return np.where(_present(column), lengths, 0) if column.null_count else lengths
    # A view is 16 bytes, of which the first four are its length.
    views = np.frombuffer(column.buffers()[1] or b"", np.int32).reshape(-1, 4)
    lengths = views[column.offset : column.offset + len(column), 0].astype(np.int64)
    return np.where(_present(column), lengths, 0)


def _pieces(lengths: NDArray[np.int64], batch_bytes: int) -> Iterator[tuple[int, int]]:
    """Cut rows into runs of at most ``batch_bytes``, or of one row where that alone is longer."""
    ends = np.cumsum(lengths)
    start = taken = 0
    while start < len(lengths):
        stop = int(np.searchsorted(ends, taken + batch_bytes, side="right"))
        stop = max(stop, start + 1)
        yield start, stop
        start, taken = stop, int(ends[stop - 1])


def _missing(
    rows: NDArray[np.int64],
    lengths: NDArray[np.int64],
    present: NDArray[np.bool_],
    path: str,
    options: SourceOptions,
) -> Iterator[Problem]:
    """Say why each row that is not kept is missing: null, or too long."""
    for row, length, there in zip(rows.tolist(), lengths.tolist(), present.tolist(), strict=True):
        if not there:
            yield Problem("null", path, row, "the row holds no value", "skipped")
            continue
        detail = f"{length:,} bytes, more than max_document_bytes ({options.max_document_bytes:,})"
        yield settle("too-large", path, row, detail, on_error=options.on_error, unit="row")


def _flat(column: pa.Array, keep: NDArray[np.bool_]) -> pa.Array:
    """Return the rows to keep as a flat column; rows that are not kept are never expanded."""
    if column.type in (pa.string_view(), pa.binary_view()):  # which filter() cannot take
        edges = np.flatnonzero(np.diff(keep.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
        runs = [column.slice(start, stop - start).cast(pa.large_binary()) for start, stop in edges.tolist()]
        return pa.concat_arrays(runs) if runs else pa.array([], pa.large_binary())
    if not keep.all():
        column = column.filter(pa.array(keep))
    if not pa.types.is_dictionary(column.type):
        return column
    found = column.dictionary.take(column.indices)
    return _flat(found, np.ones(len(found), np.bool_))


def _buffers(column: pa.Array) -> tuple[NDArray[np.signedinteger[Any]], NDArray[np.uint8]]:
    """Return the offsets (rows + 1) and all the data of a flat column, as views."""
    wide = column.type in (pa.large_string(), pa.large_binary())
    _, places, data = column.buffers()
    if places is None or places.size == 0:
        return np.zeros(1, np.int64), np.empty(0, np.uint8)
    offsets: NDArray[np.signedinteger[Any]] = np.frombuffer(places, np.int64 if wide else np.int32)
    values = np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    return offsets[column.offset : column.offset + len(column) + 1], values


def _settle(
    column: pa.Array, rows: NDArray[np.int64], path: str, options: SourceOptions
) -> tuple[TextBatch, Sequence[Problem]]:
    """Make a `TextBatch` of a flat column without nulls, handling what is not UTF-8."""
    offsets, data = _buffers(column)
    first = int(offsets[0])
    data = data[first : int(offsets[-1])]
    batch = TextBatch(data, offsets.astype(np.int64) - first)
    if _is_utf8(batch):
        return batch, ()
    documents: list[bytes] = []
    problems: list[Problem] = []
    for index, row in enumerate(rows.tolist()):
        raw = data[batch.offsets[index] : batch.offsets[index + 1]].tobytes()
        try:
            raw.decode()
            documents.append(raw)
        except UnicodeDecodeError as error:
            detail = describe_ill_formed(raw, error.start)
            problem = settle("invalid-utf8", path, row, detail, on_error=options.on_error, unit="row")
            problems.append(problem)
            if problem.action == "replaced":
                documents.append(raw.decode(errors="replace").encode())
    return TextBatch.from_utf8(documents), problems


def _is_utf8(batch: TextBatch) -> bool:
    """Tell whether every document is UTF-8, each on its own, in one pass of compiled code."""
    places, data = (pa.py_buffer(array) for array in (batch.offsets, batch.data))
    column = pa.Array.from_buffers(pa.large_string(), len(batch), [None, places, data])
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True
