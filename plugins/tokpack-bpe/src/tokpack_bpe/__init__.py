"""Byte-level BPE: a native engine that trains, encodes and decodes."""
