"""The recipe that made the embedded datasets."""
