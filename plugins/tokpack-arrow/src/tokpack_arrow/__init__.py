"""Arrow IPC files and Hugging Face datasets as a tokpack format and sources."""
