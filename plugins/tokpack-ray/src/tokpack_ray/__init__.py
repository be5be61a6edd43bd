"""Encoding on a Ray cluster, for tokpack."""
