"""Tasks: environments, reference returns, simulation and rollouts."""
