"""One fault for every rule of `FormatConformance`."""

from __future__ import annotations

import struct
import time
from dataclasses import replace

import numpy as np
import pytest

from tokpack.errors import DamagedError
from tokpack.formats.bin import BinReader
from tokpack.formats.offsets import OffsetsWriter
from tokpack.specs import FormatSpec
from tokpack.testing import FormatConformance

HEADER = struct.Struct("<4sBqqq")  # magic, item size, documents, tokens, columns


class Writer:
    """A sound little format: everything is written at the end."""

    def __init__(self, file, dtype, columns, options):
        self.file, self.dtype, self.columns = file, dtype, tuple(columns)
        self.batches = []

    def write(self, batch):
        self.batches.append(batch)

    def close(self):
        lengths = [length for batch in self.batches for length in batch.lengths]
        tokens = np.concatenate([np.empty(0, self.dtype), *(batch.tokens for batch in self.batches)])
        values = [
            np.concatenate([np.empty(0, np.uint8), *(batch.columns[name] for batch in self.batches)])
            for name in self.columns
        ]
        self.put(np.cumsum([0, *lengths], dtype=np.int64), tokens, values)

    def put(self, offsets, tokens, values, magic=b"MUTA"):
        header = HEADER.pack(magic, self.dtype.itemsize, len(offsets) - 1, len(tokens), len(self.columns))
        parts = [offsets.tobytes(), tokens.tobytes(), *(column.tobytes() for column in values)]
        self.file.write(header + b"".join(parts))


class Reader:
    def __init__(self, path, dtype):
        content = path.read_bytes()
        if len(content) < HEADER.size:
            raise DamagedError(f"{path} is truncated")
        magic, size, documents, tokens, columns = HEADER.unpack_from(content)
        if magic not in self.magics or len(content) != HEADER.size + 8 * (documents + 1) + tokens * size + (
            tokens * columns
        ):
            raise DamagedError(f"{path} is truncated")
        end = HEADER.size + 8 * (documents + 1)
        self.offsets = np.frombuffer(content, np.int64, documents + 1, HEADER.size)
        self.tokens = np.frombuffer(content, dtype, tokens, end)
        self.values = np.frombuffer(content, np.uint8, offset=end + tokens * size).reshape(columns, tokens)

    magics = (b"MUTA",)

    @property
    def dtype(self):
        return self.tokens.dtype

    def __len__(self):
        return len(self.tokens)

    def read(self, start, stop):
        return self.tokens[start:stop]

    def column(self, name, start, stop):
        return self.values[0, start:stop]

    def close(self):
        pass


SOUND = FormatSpec(
    "sound",
    "nothing is wrong with it",
    suffix=".sound",
    writer=f"{__name__.rpartition('.')[2]}:Writer",
    reader=f"{__name__.rpartition('.')[2]}:Reader",
    columns=("loss_mask",),
)


class Suite(FormatConformance):
    changes: dict[str, object] = {}  # noqa: RUF012

    @pytest.fixture
    def spec(self):
        return replace(SOUND, **self.changes)


def using(**changes):
    module = __name__.rpartition(".")[2]
    return {key: f"{module}:{value}" if isinstance(value, str) else value for key, value in changes.items()}


class HealthyFormat(Suite):
    pass


class RestartingWriter(Writer):
    def close(self):
        offsets = [0, *(int(edge) for batch in self.batches for edge in batch.offsets[1:])]
        tokens = np.concatenate([np.empty(0, self.dtype), *(batch.tokens for batch in self.batches)])
        self.put(np.array(offsets, dtype=np.int64), tokens, [tokens[:0]] * 0)


class MutantOffsetsRestart(Suite):
    kills, changes = "test_documents_come_back", using(writer="RestartingWriter", columns=())


class CountingWriter(Writer):
    def close(self):
        super().close()
        self.file.write(bytes([len(self.batches)]))


class MutantWritesBatchCount(Suite):
    kills, changes = "test_bytes_do_not_depend_on_batches", using(writer="CountingWriter")


class ForgetfulReader(Reader):
    def read(self, start, stop):
        return self.tokens[start : stop - (start > 0)]


class MutantSlicesLoseATail(Suite):
    kills, changes = "test_slices_equal_the_whole", using(reader="ForgetfulReader")


class NarrowReader(Reader):
    def read(self, start, stop):
        return self.tokens[start:stop].astype(np.uint16)


class MutantNarrows(Suite):
    kills, changes = "test_the_dtype_is_kept", using(reader="NarrowReader")


class NeedyWriter(Writer):
    def close(self):
        if self.batches:
            super().close()


class MutantEmptyFile(Suite):
    kills, changes = "test_a_shard_may_be_empty", using(writer="NeedyWriter")


class SeekingReader(Reader):
    def read(self, start, stop):
        self.start = start
        time.sleep(1e-5)
        return self.tokens[self.start : self.start + stop - start]


class MutantSharesACursor(Suite):
    kills, changes = "test_threads_agree", using(reader="SeekingReader")


class LengthsWriter(OffsetsWriter):
    def write(self, lengths):
        self._last = 0
        super().write(lengths)


class MutantIndexStartsAnew(Suite):
    kills, changes = "test_the_index_comes_back", using(holds_documents=False, index_writer="LengthsWriter")


class RawReader(BinReader):
    def gather(self, starts, out):
        for row, start in enumerate(starts.tolist()):
            out[row] = self._tokens[start : start + 5][:5] if start >= 0 else 0


class MutantGathersOutside(Suite):
    kills = "test_gather_equals_reads"
    changes = using(reader="RawReader") | {"writer": "tokpack.formats.bin:BinWriter"}


class ShuffledReader(BinReader):
    def gather(self, starts, out):
        rows = np.sort(starts)[:, None] + np.arange(5)
        if rows.min() < 0 or rows.max() >= len(self):
            raise IndexError("outside")
        out[:] = self._tokens[rows]


class MutantGathersInItsOwnOrder(Suite):
    kills = "test_gather_equals_reads"
    changes = using(reader="ShuffledReader") | {"writer": "tokpack.formats.bin:BinWriter"}


class ErasingReader(Reader):
    def __init__(self, path, dtype):
        super().__init__(path, dtype)
        self.tokens = self.tokens.copy()

    def close(self):
        self.tokens[:] = 0


class MutantErasesOnClose(Suite):
    kills, changes = "test_views_outlive_the_reader", using(reader="ErasingReader")


class MisalignedReader(Reader):
    def column(self, name, start, stop):
        return self.values[0, : stop - start]


class MutantColumnsFromTheStart(Suite):
    kills, changes = "test_columns_come_back", using(reader="MisalignedReader")


class TrustingReader(Reader):
    def __init__(self, path, dtype):
        content = path.read_bytes()
        padded = content + bytes(1000)
        _, _, documents, tokens, _ = HEADER.unpack_from(padded)
        self.offsets = np.frombuffer(padded, np.int64, documents + 1, HEADER.size)
        self.tokens = np.frombuffer(padded, dtype, tokens, HEADER.size + 8 * (documents + 1))


class MutantPadsWhatIsMissing(Suite):
    kills, changes = "test_a_truncated_file_is_never_misread", using(reader="TrustingReader")


class SwappingWriter(Writer):
    def put(self, offsets, tokens, values, magic=b"MUTA"):
        super().put(offsets, tokens.byteswap(), values)


class SwappingReader(Reader):
    def __init__(self, path, dtype):
        super().__init__(path, dtype)
        self.tokens = self.tokens.byteswap()


class MutantIsWrongTwice(Suite):
    kills, changes = "test_golden_bytes", using(writer="SwappingWriter", reader="SwappingReader")
    golden = HEADER.pack(b"MUTA", 2, 6, 10, 0) + b"".join(
        [
            np.array([0, 0, 4, 4, 5, 10, 10], dtype="<i8").tobytes(),
            np.array([1, 2, 0, 65535, 7, *[258] * 5], dtype="<u2").tobytes(),
        ]
    )


class HealthyGolden(Suite):
    golden = MutantIsWrongTwice.golden


class MutantDeniesItsDocuments(Suite):
    kills, changes = "test_claim_holds_documents", using(holds_documents=False)


class MutantClaimsToBeRaw(Suite):
    kills, changes = "test_claim_appendable", using(appendable=True)


class MutantClaimsToBeMapped(Suite):
    kills, changes = "test_claim_memory_mapped", using(memory_mapped=True)


class ClosingWriter(Writer):
    def close(self):
        super().close()
        self.file.close()


class MutantClosesTheFile(Suite):
    kills, changes = "test_documents_come_back", using(writer="ClosingWriter")
