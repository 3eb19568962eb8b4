r"""Many copies of one locomotion task, stepped together, bit-equal to Gymnasium's tasks.

Gymnasium spends as much time in Python as MuJoCo does in C. This module calls MuJoCo on one
``MjData`` per slot, and computes the rewards and ends of all slots at once:

.. math::

    r = \frac{x' - x}{\Delta t} + h - c\,\lVert a \rVert^2

with alive bonus :math:`h` and control cost :math:`c` of the task (documentation of Gymnasium,
``Hopper``, ``Walker2d`` and ``HalfCheetah``, versions ``v4`` and ``v5``). Initial
states come from Gymnasium itself.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import mujoco
import numpy as np
from mujoco import mj_step

from obdbench.errors import unknown_name
from obdbench.tasks.gymnasium_environment import GymnasiumSlots, make_from
from obdbench.tasks.task import Task

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class TaskRules:
    """Reward weights of a task, and the bounds of states that do not end an episode."""

    control_cost: float
    alive_bonus: float = 0.0
    velocity_clip: float = np.inf
    height: tuple[float, float] = (-np.inf, np.inf)
    angle: tuple[float, float] = (-np.inf, np.inf)
    state: tuple[float, float] = (-np.inf, np.inf)
    bonus_at_end: bool = True  # whether the state that ends an episode earns the alive bonus


TASK_RULES = {
    "Hopper-v4": TaskRules(1e-3, 1.0, 10.0, (0.7, np.inf), (-0.2, 0.2), (-100.0, 100.0)),
    "Walker2d-v4": TaskRules(1e-3, 1.0, 10.0, (0.8, 2.0), (-1.0, 1.0)),
    "HalfCheetah-v4": TaskRules(0.1),
}
TASK_RULES |= {
    f"{env_id.removesuffix('v4')}v5": replace(rules, bonus_at_end=False)
    for env_id, rules in TASK_RULES.items()
}


class Simulator:
    """Copies (slots) of one task; ``qpos`` and ``qvel`` contain their states, one row per slot."""

    def __init__(self, task: Task) -> None:
        if task.env_id not in TASK_RULES:
            raise unknown_name("simulated environment", task.env_id, TASK_RULES)
        self.rules = TASK_RULES[task.env_id]
        # MuJoCo's warnings go to the log instead of a file in the working directory.
        mujoco.set_mju_user_warning(logging.getLogger(__name__).info)
        self.env = make_from(task.name, task.env_id).unwrapped
        self.model = self.env.model
        self.substeps = int(self.env.frame_skip)
        self.time_step = float(self.env.dt)
        self.slots: list[Any] = []
        self.views: list[tuple[Array, Array, Array]] = []
        self.qpos = np.empty((0, self.model.nq))
        self.qvel = np.empty((0, self.model.nv))

    def reset(self, seeds: Sequence[int]) -> Array:
        """Set slot ``i`` to the initial state of ``gymnasium.make(...).reset(seed=seeds[i])``."""
        while len(self.slots) < len(seeds):
            data = mujoco.MjData(self.model)
            self.slots.append(data)
            self.views.append((data.ctrl, data.qpos, data.qvel))
        self.qpos = np.empty((len(seeds), self.model.nq))
        self.qvel = np.empty((len(seeds), self.model.nv))
        for slot, seed in enumerate(seeds):
            self.env.reset(seed=int(seed))
            mujoco.mj_copyData(self.slots[slot], self.model, self.env.data)
            self.qpos[slot], self.qvel[slot] = self.env.data.qpos, self.env.data.qvel
        return self.observations(np.arange(len(seeds)))

    def observations(self, slots: Array) -> Array:
        """Joint positions without the distance travelled, and velocities."""
        clip = self.rules.velocity_clip
        velocity = np.clip(self.qvel[slots], -clip, clip)
        return np.concatenate([self.qpos[slots, 1:], velocity], axis=1)

    def step(self, slots: Array, actions: Array) -> tuple[Array, Array, Array]:
        """Advance the given slots; returns next observations, rewards and terminations."""
        before = self.qpos[slots, 0]
        self._simulate(slots, actions)
        rules, qpos = self.rules, self.qpos[slots]
        alive = self._alive(qpos, self.qvel[slots])
        bonus = rules.alive_bonus if rules.bonus_at_end else rules.alive_bonus * alive
        rewards = (qpos[:, 0] - before) / self.time_step + bonus
        rewards = rewards - np.float32(rules.control_cost) * np.square(actions).sum(axis=1)
        return self.observations(slots), rewards, ~alive

    def truncated(self, slots: Array) -> Array:
        """No episode is cut off before the time limit of the task."""
        return np.zeros(len(slots), bool)

    def _simulate(self, slots: Array, actions: Array) -> None:
        for slot, action in zip(slots.tolist(), actions, strict=True):
            control, qpos, qvel = self.views[slot]
            control[:] = action
            mj_step(self.model, self.slots[slot], nstep=self.substeps)
            self.qpos[slot], self.qvel[slot] = qpos, qvel

    def _alive(self, qpos: Array, qvel: Array) -> Array:
        rules = self.rules
        state = np.concatenate([qpos[:, 2:], qvel], axis=1)
        inside = ((state > rules.state[0]) & (state < rules.state[1])).all(axis=1)
        height, angle = qpos[:, 1], qpos[:, 2]
        return np.asarray(
            inside
            & (height > rules.height[0])
            & (height < rules.height[1])
            & (angle > rules.angle[0])
            & (angle < rules.angle[1])
        )


@cache
def get_simulator(task: Task) -> Simulator | GymnasiumSlots:
    """The simulator of a task, cached per process because its creation is slow."""
    return Simulator(task) if task.env_id in TASK_RULES else GymnasiumSlots(task)
