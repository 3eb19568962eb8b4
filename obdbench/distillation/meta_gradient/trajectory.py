r"""The inner loop as its derivative needs it: the states before its last T steps, last first.

A state is a student's parameters with its optimizer's moments. Where all T fit into the memory they
are kept. Otherwise the loop is cut into segments of K steps, the state before each segment is kept,
and a segment is run again when the way back comes to it: the same states, one more forward pass.
While the way back goes through the last segment,

.. math:: K + \lceil T / K \rceil - 1

states are held, at the least about :math:`2\sqrt T`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from obdbench.distillation.memory_limits import insufficient_memory
from obdbench.policies.cloning import CloningConfig
from obdbench.policies.networks import Architecture, Params, count_parameters, seeded_generator
from obdbench.policies.optimizers import OptimizerState

TrainingState = tuple[Params, OptimizerState]


@dataclass
class Trajectory:
    """Steps ``first`` to ``end`` of a loop, in segments of ``length``; ``advance`` takes one."""

    advance: Callable[[int, TrainingState], TrainingState]
    first: int
    end: int
    length: int
    _starts: list[TrainingState] = field(default_factory=list, init=False)
    _segment: list[TrainingState] = field(default_factory=list, init=False)

    def forth(self, state: TrainingState) -> TrainingState:
        """The state after the last step."""
        last = self.first + (self.end - self.first - 1) // self.length * self.length
        for step in range(self.end):
            if step >= self.first and (step - self.first) % self.length == 0:
                self._starts.append(state)
            if step >= last:
                self._segment.append(state)
            state = self.advance(step, state)
        return state

    def back(self) -> Iterator[tuple[int, TrainingState]]:
        """Every step from the last to ``first`` with the state before it, which is let go."""
        while self._starts:
            state = self._starts.pop()
            begin = self.first + len(self._starts) * self.length
            if not self._segment:
                self._segment.append(state)
                for step in range(begin, begin + self.length - 1):
                    self._segment.append(self.advance(step, self._segment[-1]))
            while self._segment:
                yield begin + len(self._segment) - 1, self._segment.pop()


def segment_length(steps: int, one: int, memory: int) -> int:
    """The longest segment of ``steps`` steps within the memory; ``one`` is the bytes of a state."""
    fit = memory // one
    for length in range(min(steps, fit), 0, -1):
        if length + math.ceil(steps / length) - 1 <= fit:
            return length
    least = min(length + math.ceil(steps / length) - 1 for length in range(1, steps + 1))
    raise insufficient_memory(
        memory,
        least * one,
        f"the inner loop of {steps} steps",
        "use fewer seeds, draws or inner steps",
    )


def state_bytes(held: TrainingState) -> int:
    """What one state takes."""
    params, state = held
    groups = (params, *state.moments.values())
    return sum(t.numel() * t.element_size() for group in groups for t in group.values())


def predict_state_bytes(
    how: CloningConfig, stack: int, observation_size: int, action_size: int, element: int
) -> int:
    """:func:`state_bytes` a stack's states before there are any."""
    student = how.architecture
    if isinstance(student, Architecture):
        layers = student.shapes(observation_size, action_size)
        numbers = sum(rows * (columns + 1) for rows, columns in layers)
    else:
        numbers = count_parameters(
            student.init([seeded_generator(0)], observation_size, action_size)
        )
    return element * stack * numbers * (1 + len(how.optimizer.moments))
