"""Exact meta-gradients through the inner training loop."""
