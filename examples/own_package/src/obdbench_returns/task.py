"""A task: a Gymnasium environment with box observations and actions.

The environment is created when the task is first used.
"""

from __future__ import annotations

from obdbench.tasks.registration import EnvironmentTask

# Returns of uniform actions (measured, 100 episodes) and of a SAC agent (benchmark.md of
# rl-baselines3-zoo); without them, scores are raw returns.
MOUNTAIN_CAR = EnvironmentTask("mountain-car", "MountainCarContinuous-v0", (-33.3, 94.679))
