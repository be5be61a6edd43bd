"""The texts of stored documents, for formats that keep them beside the ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokpack.batches import TextBatch, TokenBatch
from tokpack.protocols import Tokenizer

__all__ = ["DocumentTexts"]


@dataclass(frozen=True, slots=True)
class DocumentTexts:
    """Decodes documents, leaving out the BOS and EOS that were put around them.

    The very text that was encoded, where the tokenizer is lossless. A document that was split within a
    character has U+FFFD there.
    """

    tokenizer: Tokenizer
    bos_id: int | None
    eos_id: int | None

    def __call__(self, batch: TokenBatch) -> TextBatch:
        """Return one text per document."""
        return TextBatch.from_utf8([self._decode(document) for document in batch])

    def _decode(self, document: NDArray[np.uint16] | NDArray[np.uint32]) -> bytes:
        if self.bos_id is not None and len(document) and document[0] == self.bos_id:
            document = document[1:]
        if self.eos_id is not None and len(document) and document[-1] == self.eos_id:
            document = document[:-1]
        return self.tokenizer.decode_bytes(document).decode(errors="replace").encode()
