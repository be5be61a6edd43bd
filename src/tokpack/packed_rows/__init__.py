"""Packed rows as files, for other trainers: planned, written, read back, and only then given their name."""
