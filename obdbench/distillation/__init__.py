"""Offline behavior distillation: the outer loop and its gradient methods."""
