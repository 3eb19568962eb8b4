"""Offline reinforcement learning: one readable file per algorithm, and one training loop."""
