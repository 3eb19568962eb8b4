"""Sharing of synsets and results on the Hugging Face Hub."""
