"""The token files of other trainers: Megatron, llm.c and modded-nanogpt."""
