r"""The trajectory of the inner loop: the training states before its last T steps, last one first.

A training state consists of a student's parameters and its optimizer's moments. If all T states fit
into memory they are kept. Otherwise the loop is cut into segments of K steps, the state before each
segment is kept, and a segment is computed again when the reverse pass reaches it: the same states,
at the cost of one more forward pass. While the reverse pass is in the last segment,

.. math:: K + \lceil T / K \rceil - 1

states are kept, which is about :math:`2\sqrt T` at least (checkpointing as in Chen et al.,
2016, arXiv 1604.06174).
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
    """Steps ``first`` to ``end`` of the inner loop in segments of ``length`` steps.

    ``advance`` takes one inner step, given its number and the training state before it.
    """

    advance: Callable[[int, TrainingState], TrainingState]
    first: int
    end: int
    length: int
    _segment_starts: list[TrainingState] = field(default_factory=list, init=False)
    _segment: list[TrainingState] = field(default_factory=list, init=False)

    def run_forward(self, state: TrainingState) -> TrainingState:
        """Run the inner loop from ``state`` and return the state after the last step."""
        last_start = self.first + (self.end - self.first - 1) // self.length * self.length
        for step in range(self.end):
            if step >= self.first and (step - self.first) % self.length == 0:
                self._segment_starts.append(state)
            if step >= last_start:
                self._segment.append(state)
            state = self.advance(step, state)
        return state

    def iterate_backward(self) -> Iterator[tuple[int, TrainingState]]:
        """Yield every step from the last to ``first`` with the state before it, and release it."""
        while self._segment_starts:
            state = self._segment_starts.pop()
            start = self.first + len(self._segment_starts) * self.length
            if not self._segment:
                self._segment.append(state)
                for step in range(start, start + self.length - 1):
                    self._segment.append(self.advance(step, self._segment[-1]))
            while self._segment:
                yield start + len(self._segment) - 1, self._segment.pop()


def segment_length(steps: int, state_bytes: int, memory: int) -> int:
    """Return the length of the longest segments of ``steps`` steps that fit into the memory."""
    max_states = memory // state_bytes
    for length in range(min(steps, max_states), 0, -1):
        if kept_states(steps, length) <= max_states:
            return length
    least = min(kept_states(steps, length) for length in range(1, steps + 1))
    raise insufficient_memory(
        memory,
        least * state_bytes,
        f"the inner loop of {steps} steps",
        "use fewer seeds, draws or inner steps",
    )


def kept_states(steps: int, length: int) -> int:
    """Return how many states are kept at most with segments of this length."""
    return length + math.ceil(steps / length) - 1


def measure_state_bytes(training_state: TrainingState) -> int:
    """Return the size of a training state."""
    params, state = training_state
    groups = (params, *state.moments.values())
    return sum(t.numel() * t.element_size() for group in groups for t in group.values())


def predict_state_bytes(
    cloning: CloningConfig, stack: int, observation_size: int, action_size: int, element_bytes: int
) -> int:
    """Return the size that :func:`measure_state_bytes` will give, without a training state."""
    student = cloning.architecture
    if isinstance(student, Architecture):
        layers = student.shapes(observation_size, action_size)
        numbers = sum(rows * (columns + 1) for rows, columns in layers)
    else:
        numbers = count_parameters(
            student.init([seeded_generator(0)], observation_size, action_size)
        )
    return element_bytes * stack * numbers * (1 + len(cloning.optimizer.moments))
