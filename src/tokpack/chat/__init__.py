"""Conversations and prompt/completion pairs: their text, and which of it is trained on.

A source gives records; a renderer makes text of them and names the bytes that are trained; any tokenizer
encodes that text; `encode_chat` turns the bytes into a loss mask beside the tokens.
"""
