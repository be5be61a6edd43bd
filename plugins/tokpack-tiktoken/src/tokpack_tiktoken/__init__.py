"""OpenAI's tiktoken as a tokenizer backend of tokpack."""
