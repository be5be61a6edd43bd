"""SentencePiece models for tokpack."""
