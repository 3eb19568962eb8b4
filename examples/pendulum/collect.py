"""Collect transitions of Pendulum-v1 with a controller of varying quality.

The controller raises the energy of the pendulum to that of the upright position, and holds it there
with proportional and derivative feedback (Åström and Furuta, 2000, "Swinging up a pendulum by
energy control"). A share of the actions, drawn per episode, is replaced by uniform random ones::

    python examples/pendulum/collect.py pendulum.npz
"""

import sys

import gymnasium
import numpy as np

EPISODES = 60
RANDOM_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def act(observation):
    """Torque for an observation: the cosine and the sine of the angle, and its velocity."""
    cos, sin, velocity = observation
    if cos > 0.9 and abs(velocity) < 2.0:
        torque = -10.0 * sin - 2.0 * velocity
    else:
        energy = velocity**2 / 6 + 5 * (cos - 1)  # 0 upright at rest
        torque = -energy * (1.0 if velocity >= 0 else -1.0)
    return np.clip([torque], -2.0, 2.0).astype(np.float32)


def collect(seed=0):
    """Columns of a dataset in D4RL's layout: every episode is cut off after 200 steps."""
    env, rng = gymnasium.make("Pendulum-v1"), np.random.default_rng(seed)
    rows = []
    for episode in range(EPISODES):
        share = RANDOM_SHARES[episode % len(RANDOM_SHARES)]
        observation, _ = env.reset(seed=seed + episode)
        truncated = False
        while not truncated:
            action = act(observation)
            if rng.random() < share:
                action = rng.uniform(-2.0, 2.0, 1).astype(np.float32)
            following, reward, _, truncated, _ = env.step(action)
            rows.append((*observation, *action, reward))
            observation = following
    table = np.array(rows, np.float32)
    return {
        "observations": table[:, :3],
        "actions": table[:, 3:4],
        "rewards": table[:, 4],
        "terminals": np.zeros(len(table), bool),
        "timeouts": np.arange(len(table)) % 200 == 199,
    }


if __name__ == "__main__":
    arrays = collect()
    np.savez_compressed(sys.argv[1], task="pendulum", **arrays)
    returns = arrays["rewards"].reshape(-1, 200).sum(axis=1)
    print(f"{EPISODES} episodes, returns from {returns.min():.0f} to {returns.max():.0f}")
