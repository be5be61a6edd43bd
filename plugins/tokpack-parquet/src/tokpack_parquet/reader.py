"""Random access to the tokens of a Parquet file: a row group is decoded whole and kept for a while."""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tokpack.batches import offsets_from_lengths
from tokpack.dtypes import COLUMN_DTYPES, TokenArray, narrow
from tokpack.errors import DamagedError
from tokpack.formats.segments import gather_segments, read_segments
from tokpack_parquet.footer import open_parquet, parquet_errors
from tokpack_parquet.pages import iter_pages
from tokpack_parquet.writer import TOKENS_KEY

__all__ = ["ParquetReader"]

#: Decoded row groups that are kept, and the largest that is decoded at all.
_CACHED_GROUPS = 4
_MAX_GROUP_BYTES = 1 << 28

_TokenCount: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class ParquetReader:
    """The ``input_ids`` of one file as one axis of tokens.

    Opening reads the footer. `read` decodes the row groups that it touches; `offsets` reads the whole column
    once, as Parquet keeps list lengths with the values.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self._path = path
        self._dtype = dtype
        with parquet_errors(str(path)):
            self._file = pa.OSFile(str(path))
        self._parquet, self._row_groups = open_parquet(self._file, str(path))
        self._check_columns()
        self._lock = threading.Lock()
        self._decoded: OrderedDict[tuple[int, str], NDArray[Any]] = OrderedDict()

    @property
    def dtype(self) -> np.dtype[Any]:
        """Storage dtype."""
        return self._dtype

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Document boundaries, int64 of shape (rows + 1,); reads the whole column."""
        groups = [self._lists(group, "input_ids")[0] for group in range(len(self._row_groups))]
        lengths = np.concatenate([np.empty(0, np.int64), *groups])
        return offsets_from_lengths(lengths, len(lengths))

    def read(self, start: int, stop: int) -> TokenArray:
        """Return tokens [start, stop): a view inside a row group, a copy across several."""
        return read_segments(self._starts, self._tokens, start, stop, self._dtype)

    def gather(self, starts: NDArray[np.int64], out: TokenArray) -> None:
        """Fill ``out`` (rows, length) with tokens [starts[i], starts[i] + length), group after group."""
        gather_segments(self._starts, self._tokens, starts, out)

    def column(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return the values of a further per-token column for tokens [start, stop)."""
        if name not in COLUMN_DTYPES or name not in self._parquet.schema_arrow.names:
            raise DamagedError(f"{self._path} has no column {name!r}; encode it again with that column")
        values = partial(self._group, name=name, dtype=COLUMN_DTYPES[name])
        return read_segments(self._starts, values, start, stop, COLUMN_DTYPES[name])

    def close(self) -> None:
        """Release the file; arrays handed out earlier stay valid."""
        with self._lock:
            self._decoded.clear()
            self._parquet.close(force=True)
            self._file.close()

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """Token at which each row group begins, and the end; counted where the footer does not say."""
        groups = len(self._row_groups)
        stated = (self._parquet.metadata.metadata or {}).get(TOKENS_KEY)
        if stated is None:
            counts = [int(self._lists(group, "input_ids")[0].sum()) for group in range(groups)]
            return offsets_from_lengths(counts, groups)
        try:
            counts = msgspec.json.decode(stated, type=list[_TokenCount])
        except (msgspec.MsgspecError, RecursionError) as error:
            raise DamagedError(f"{self._path} states impossible token counts: {error}") from error
        if len(counts) != groups:
            raise DamagedError(
                f"{self._path} counts the tokens of {len(counts):,} row groups and has {groups:,}"
            )
        return offsets_from_lengths(counts, groups)

    def _check_columns(self) -> None:
        schema = self._parquet.schema_arrow
        index = schema.get_field_index("input_ids")
        if index < 0:
            names = ", ".join(schema.names[:20]) or "none"
            raise DamagedError(
                f"{self._path} has no column input_ids, only: {names}; is it a file of tokens?"
            )
        kind = schema.field(index).type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_integer(
            kind.value_type
        ):
            raise DamagedError(f"input_ids of {self._path} holds {str(kind)[:80]}, not lists of integers")

    def _tokens(self, group: int) -> NDArray[Any]:
        return self._group(group, "input_ids", self._dtype)

    def _group(self, group: int, name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
        key = (group, name)
        with self._lock:
            if key in self._decoded:
                self._decoded.move_to_end(key)
                return self._decoded[key]
        _, values = self._lists(group, name)
        expected = int(self._starts[group + 1] - self._starts[group])
        if len(values) != expected:
            raise DamagedError(
                f"row group {group} of {self._path} holds {len(values):,} values of {name} where the footer "
                f"promises {expected:,}; encode it again"
            )
        values = narrow(values, dtype) if name == "input_ids" else values.astype(dtype, copy=False)
        values.flags.writeable = False
        with self._lock:
            self._decoded[key] = values
            while len(self._decoded) > _CACHED_GROUPS:
                self._decoded.popitem(last=False)
        return values

    def _lists(self, group: int, name: str) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Decode one column of a row group: (length of each list, values back to back)."""
        with self._lock:
            self._check_size(group, name)
            with parquet_errors(str(self._path)):
                table: pa.Table = self._parquet.read_row_group(group, columns=[name], use_threads=False)
        lengths, values = [np.empty(0, np.int64)], []
        for chunk in table.column(name).chunks:
            flat = chunk.flatten()
            if chunk.null_count or flat.null_count:
                raise DamagedError(f"{self._path} has nulls in {name} of row group {group}; encode it again")
            lengths.append(np.diff(chunk.offsets.to_numpy()).astype(np.int64))
            values.append(flat.to_numpy())
        joined = values[0] if len(values) == 1 else np.concatenate([np.empty(0, self._dtype), *values])
        return np.concatenate(lengths), joined

    def _check_size(self, group: int, name: str) -> None:
        leaves = self._row_groups[group].chunks.items()
        chunk = next((chunk for leaf, chunk in leaves if leaf.partition(".")[0] == name), None)
        if chunk is None:
            raise DamagedError(f"row group {group} of {self._path} lacks {name}; encode it again")
        total = 0
        for page in iter_pages(self._file, start=chunk.start, length=chunk.nbytes, path=str(self._path)):
            total += page.nbytes + (0 if page.is_dictionary else 4 * page.values)
            if total > _MAX_GROUP_BYTES:
                raise DamagedError(
                    f"row group {group} of {self._path} decodes to more than {_MAX_GROUP_BYTES >> 20} MiB; "
                    "write it again with smaller row groups"
                )
