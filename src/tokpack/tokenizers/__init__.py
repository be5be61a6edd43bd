"""Tokenizers, and what is the same for them all."""
