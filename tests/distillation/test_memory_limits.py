"""Memory limits: what is kept within them, and errors before the first step."""

from __future__ import annotations

import math
import weakref
from typing import Any, ClassVar

import pytest
import torch

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.infinite_width.student import InfiniteWidthStudent
from obdbench.distillation.loop import EvaluationPoint, distill_points
from obdbench.distillation.meta_gradient.trajectory import (
    Trajectory,
    predict_state_bytes,
    segment_length,
)
from obdbench.distillation.phase_solvers import PhaseSolvers
from obdbench.distillation.settings import DistillSettings, resolve_settings
from obdbench.distillation.solvers.solver import ProblemSize
from obdbench.errors import ObdError
from obdbench.execution import estimate
from obdbench.experiments.spec import TrialSpec
from obdbench.objectives.objective import Columns, make_objective
from obdbench.policies.cloning import CloningConfig
from obdbench.policies.networks import MLP4, RESIDUAL, Architecture, seeded_generator
from obdbench.policies.optimizers import get_optimizer
from obdbench.teachers.teacher import Teacher

MIB = 2**20


class CountedState:
    """A training state that is counted while it exists."""

    alive: ClassVar[weakref.WeakSet[CountedState]] = weakref.WeakSet()

    def __init__(self, step: int) -> None:
        self.step = step
        self.alive.add(self)


@pytest.mark.parametrize("first", [0, 7])
@pytest.mark.parametrize("max_states", [19, 20, 25, 50, 100, 1000])
def test_trajectory_keeps_no_more_states_than_fit(max_states: int, first: int) -> None:
    end = first + 100
    steps_taken: list[int] = []
    most_alive = 0

    def advance(step: int, state: Any) -> Any:
        nonlocal most_alive
        assert state.step == step
        steps_taken.append(step)
        state_after = CountedState(step + 1)
        most_alive = max(most_alive, len(CountedState.alive))
        return state_after

    length = segment_length(100, 1, max_states)
    trajectory: Any = Trajectory(advance, first, end, length)
    last = trajectory.run_forward(CountedState(0)).step
    assert last == end
    visited = [(step, state.step) for step, state in trajectory.iterate_backward()]
    assert visited == [(step, step) for step in reversed(range(first, end))]
    assert most_alive <= max_states + 1  # the last one is being created
    assert len(steps_taken) < 2 * end
    assert (len(steps_taken) == end) == (max_states >= 100)


def test_longest_segment_that_fits_is_used() -> None:
    assert segment_length(100, 7, 700) == 100
    assert segment_length(100, 7, 699) == 98
    assert segment_length(1, 7, 7) == 1
    with pytest.raises(ObdError, match="do not hold"):
        segment_length(100, 7, 7 * 19 - 1)
    assert segment_length(100, 7, 7 * 19) == 10


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("architecture", [RESIDUAL, MLP4], ids=str)
def test_state_size_is_predicted(architecture: Architecture, optimizer: str) -> None:
    cloning = CloningConfig(architecture, get_optimizer(optimizer), 0.1, 10)
    params = architecture.init([seeded_generator(s) for s in range(3)], 17, 6)
    groups = [params, *cloning.optimizer.init(params).moments.values()]
    actual = sum(value.numel() * 4 for group in groups for value in group.values())
    assert predict_state_bytes(cloning, 3, 17, 6, 4) == actual


def points(
    dataset: Dataset, teacher: Teacher, settings: DistillSettings, memory: int, **more: Any
) -> list[EvaluationPoint]:
    objective = make_objective("pbc")
    return list(
        distill_points(dataset, teacher, objective, settings, [0, 1], memory=memory, **more)
    )


@pytest.mark.parametrize(
    ("overrides", "contents"),
    [
        ({"kernel_share": 0.5, "inner_steps": 100}, "the inner loop of 100 steps"),
        ({"kernel_share": 0.5, "kernel_batch": 100_000}, "kernel matrices of 16 pairs"),
        ({"inner_optimizer": "adam", "inner_lr": 0.001}, "the inner loop of 10 steps"),
        ({"architecture": "residual"}, "the inner loop of 10 steps"),
    ],
    ids=["exact after infinite width", "infinite width", "adam", "residual"],
)
def test_too_little_memory_is_an_error_before_anything_is_prepared(
    overrides: dict[str, Any],
    contents: str,
    toy_dataset: Dataset,
    toy_teacher: Teacher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> Columns:
        raise AssertionError("prepare() was called")

    objective = make_objective("pbc")
    settings = resolve_settings("tiny", overrides)
    monkeypatch.setattr(objective, "prepare", fail)
    run = distill_points(toy_dataset, toy_teacher, objective, settings, [0, 1], memory=4 * MIB)
    with pytest.raises(ObdError, match=contents) as caught:
        next(run)
    assert "--memory" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_memory_that_the_error_asks_for_suffices(
    toy_dataset: Dataset, toy_teacher: Teacher
) -> None:
    for overrides in ({"inner_optimizer": "adam"}, {"kernel_share": 1.0}, {"solver": "full"}):
        settings = resolve_settings("tiny", {"steps": 2, "pairs": 64, **overrides})
        with pytest.raises(ObdError, match="do not hold") as caught:
            points(toy_dataset, toy_teacher, settings, MIB // 2)
        least = float(str(caught.value).split("at least ")[1].split(" GiB")[0])
        points(toy_dataset, toy_teacher, settings, math.ceil(least * 2**30))


def test_steps_after_the_last_evaluation_point_need_no_memory(
    toy_dataset: Dataset, toy_teacher: Teacher
) -> None:
    """No exact step is taken if the last evaluation point lies in the infinite-width phase."""
    settings = resolve_settings(
        "tiny", {"kernel_share": 0.5, "inner_steps": 100, "evaluate_at": (0.5,)}
    )
    assert [point.step for point in points(toy_dataset, toy_teacher, settings, 4 * MIB)] == [2]


def test_kernel_matrices_grow_with_the_square_of_the_pairs() -> None:
    solver = InfiniteWidthStudent(4, 0.1, 100, memory=2**31)
    small, large = (
        solver.required_bytes(1, pairs, 256, 3, dtype=torch.float32) for pairs in (2_000, 4_000)
    )
    assert 3.5 < large / small < 4
    with pytest.raises(ObdError, match="of 65536 pairs"):
        solver.required_bytes(1, 65_536, 256, 3, dtype=torch.float32)


def test_five_matrices_between_states_and_pairs_are_counted_per_policy() -> None:
    """Cosine, value, two derivatives, and the stacked values."""
    few, many = (
        InfiniteWidthStudent(4, 0.1, 1).required_bytes(3, 10, states, 3, dtype=torch.float64)
        for states in (1_000, 2_000)
    )
    kept, intermediate = 3 * 10 * 1_000 * 5, 3 * 1_000 * 10
    assert many - few == 8 * (kept + intermediate)


def spec(**overrides: Any) -> TrialSpec:
    settings = resolve_settings("fast", overrides)
    return TrialSpec(dataset="embedded/hopper-medium-v1", objective="pbc", settings=settings)


def test_dry_run_estimates_the_memory_of_every_method() -> None:
    """The estimate without the interpreter's own memory is bounded by the limit."""
    bound = 2 * 2**30

    def estimated(**overrides: Any) -> float:
        return estimate.estimate_peak_memory(spec(**overrides), bound) - estimate.PROCESS_BYTES

    assert (
        estimated(kernel_share=0.0, inner_steps=10)
        < estimated(kernel_share=0.0, inner_steps=40)
        < bound
    )
    assert estimated(kernel_share=0.0, inner_steps=5000) <= bound
    assert estimated(kernel_share=0.0, inner_optimizer="sgdm", inner_steps=5000) <= bound
    assert estimated(kernel_share=1.0) < bound / 20
    assert estimated(kernel_share=1.0, pairs=6_000) > bound / 2
    assert estimated(kernel_share=1.0, pairs=60_000) == bound
    momentum, adam = (
        estimated(kernel_share=0.0, inner_optimizer=name, inner_steps=20)
        for name in ("sgdm", "adam")
    )
    assert adam == pytest.approx(1.5 * momentum)
    random = spec().model_copy(update={"objective": "random"})
    assert estimate.estimate_peak_memory(random, bound) == estimate.PROCESS_BYTES


def test_memory_grows_with_the_number_of_seeds() -> None:
    methods = PhaseSolvers(resolve_settings("fast", {"kernel_share": 0.0}), 2**31)
    ratio = methods.required_bytes(ProblemSize(3, 11, 3)) / methods.required_bytes(
        ProblemSize(1, 11, 3)
    )
    assert ratio == pytest.approx(3)
