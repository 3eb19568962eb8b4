"""Simulated environments: their identities, reference returns and rollouts."""
