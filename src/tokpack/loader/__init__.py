"""Feeding a training loop: which rows, in whose memory, and from where to go on.

`Loader` runs without torch and hands out NumPy batches; `tokpack.loader.device` puts the same batches on a
device, and `tokpack.loader.datasets` wears the clothes of torch's own datasets.
"""

from tokpack.loader.loader import HostSlot, Loader, Slot, open_loader
from tokpack.loader.populate import populate, populate_in_background
from tokpack.loader.share import Share

__all__ = ["HostSlot", "Loader", "Share", "Slot", "open_loader", "populate", "populate_in_background"]
