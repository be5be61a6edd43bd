"""Hugging Face tokenizers for tokpack."""
