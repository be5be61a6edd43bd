"""The training loop: the only room, with the device half of the loader, that imports torch."""
