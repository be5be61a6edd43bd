"""Which documents share a row: bin packing on document lengths alone, for `packed` and `tokpack pack`.

Four strategies, each a pure function of the offsets:

``best-fit``   longest first, each into the row it fills best; the default. Planned on the histogram of
               lengths, so the work grows with the distinct lengths, hardly with the documents (histogram:
               Krell et al. 2021, arXiv:2107.02027; best fit for language models: Ding et al. 2024,
               arXiv:2404.10830).
``first-fit``  longest first, each into the first row with room; on the histogram too.
``greedy``     in the order of the dataset; a document that does not fit closes the row.
``pool``       in the order of the dataset, each into the best of 16 open rows; if none has room, the fullest
               is closed. Starts afresh every 4096 documents, so a row holds neighbours only.

Memory beside the offsets while planning: up to 50 bytes per document, 34 for ``best-fit`` (3.4 GB and half a
minute for 10**8 documents). The plan keeps 12 bytes per piece and 9 per row.
"""

from __future__ import annotations

from tokpack.samplers.packing.documents import LongDocuments
from tokpack.samplers.packing.plan import STRATEGIES, PackingLedger, PackingPlan, Strategy, plan_rows

__all__ = ["STRATEGIES", "LongDocuments", "PackingLedger", "PackingPlan", "Strategy", "plan_rows"]
