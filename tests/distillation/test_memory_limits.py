"""A bound on memory: what is held within it, and refusals that come before the first step."""

from __future__ import annotations

import math
import weakref
from typing import Any, ClassVar

import pytest
import torch

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.infinite_width.solver import InfiniteWidthSolver
from obdbench.distillation.loop import EvaluationPoint, distill_points
from obdbench.distillation.meta_gradient.solver import MetaGradientSolver
from obdbench.distillation.meta_gradient.trajectory import (
    Trajectory,
    predict_state_bytes,
    segment_length,
)
from obdbench.distillation.settings import DistillSettings, resolve_settings
from obdbench.distillation.step_methods import StepMethods
from obdbench.errors import ObdError
from obdbench.execution import estimate
from obdbench.experiments.spec import TrialSpec
from obdbench.objectives.objective import Columns, make_objective
from obdbench.policies.cloning import CloningConfig
from obdbench.policies.networks import MLP4, RESIDUAL, Architecture, seeded_generator
from obdbench.policies.optimizers import get_optimizer
from obdbench.teachers.teacher import Teacher

MIB = 2**20


class Counted:
    """A state that knows how many of its kind are alive."""

    alive: ClassVar[weakref.WeakSet[Counted]] = weakref.WeakSet()

    def __init__(self, step: int) -> None:
        self.step = step
        self.alive.add(self)


@pytest.mark.parametrize("first", [0, 7])
@pytest.mark.parametrize("fit", [19, 20, 25, 50, 100, 1000])
def test_a_trajectory_holds_no_more_than_fits(fit: int, first: int) -> None:
    end = first + 100
    taken: list[int] = []
    most = 0

    def advance(step: int, state: Any) -> Any:
        nonlocal most
        assert state.step == step
        taken.append(step)
        made = Counted(step + 1)
        most = max(most, len(Counted.alive))
        return made

    length = segment_length(100, 1, fit)
    trajectory: Any = Trajectory(advance, first, end, length)
    last = trajectory.forth(Counted(0)).step
    assert last == end
    seen = [(step, state.step) for step, state in trajectory.back()]
    assert seen == [(step, step) for step in reversed(range(first, end))]
    assert most <= fit + 1  # and the one that is being made
    assert len(taken) < 2 * end
    assert (len(taken) == end) == (fit >= 100)


def test_the_longest_segment_that_fits_is_taken() -> None:
    assert segment_length(100, 7, 700) == 100
    assert segment_length(100, 7, 699) == 98
    assert segment_length(1, 7, 7) == 1
    with pytest.raises(ObdError, match="do not hold"):
        segment_length(100, 7, 7 * 19 - 1)
    assert segment_length(100, 7, 7 * 19) == 10


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("architecture", [RESIDUAL, MLP4], ids=str)
def test_the_size_of_a_state_is_known_before_it_is_made(
    architecture: Architecture, optimizer: str
) -> None:
    how = CloningConfig(architecture, get_optimizer(optimizer), 0.1, 10)
    params = architecture.init([seeded_generator(s) for s in range(3)], 17, 6)
    held = [params, *how.optimizer.init(params).moments.values()]
    found = sum(value.numel() * 4 for group in held for value in group.values())
    assert predict_state_bytes(how, 3, 17, 6, 4) == found


def points(
    dataset: Dataset, teacher: Teacher, settings: DistillSettings, memory: int, **more: Any
) -> list[EvaluationPoint]:
    objective = make_objective("pbc")
    return list(
        distill_points(dataset, teacher, objective, settings, [0, 1], memory=memory, **more)
    )


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"kernel_share": 0.5, "inner_steps": 100}, "the inner loop of 100 steps"),
        ({"kernel_share": 0.5, "kernel_batch": 100_000}, "kernel matrices of 16 pairs"),
        ({"inner_optimizer": "adam", "inner_lr": 0.001}, "the inner loop of 10 steps"),
        ({"architecture": "residual"}, "the inner loop of 10 steps"),
    ],
    ids=["exact after infinite width", "infinite width", "adam", "residual"],
)
def test_too_little_memory_is_said_before_the_first_step(
    overrides: dict[str, Any],
    words: str,
    toy_dataset: Dataset,
    toy_teacher: Teacher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: Any) -> Columns:
        raise AssertionError("something was prepared")

    objective = make_objective("pbc")
    settings = resolve_settings("tiny", overrides)
    monkeypatch.setattr(objective, "prepare", never)
    run = distill_points(toy_dataset, toy_teacher, objective, settings, [0, 1], memory=4 * MIB)
    with pytest.raises(ObdError, match=words) as refused:
        next(run)
    assert "--memory" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_the_refusal_asks_for_is_enough(toy_dataset: Dataset, toy_teacher: Teacher) -> None:
    for overrides in ({"inner_optimizer": "adam"}, {"kernel_share": 1.0}, {"solver": "full"}):
        settings = resolve_settings("tiny", {"steps": 2, "pairs": 64, **overrides})
        with pytest.raises(ObdError, match="do not hold") as refused:
            points(toy_dataset, toy_teacher, settings, MIB // 2)
        least = float(str(refused.value).split("at least ")[1].split(" GiB")[0])
        points(toy_dataset, toy_teacher, settings, math.ceil(least * 2**30))


def test_only_the_steps_that_are_taken_count(toy_dataset: Dataset, toy_teacher: Teacher) -> None:
    """Exact steps never come where the last evaluation point lies before them."""
    settings = resolve_settings(
        "tiny", {"kernel_share": 0.5, "inner_steps": 100, "evaluate_at": (0.5,)}
    )
    assert [point.step for point in points(toy_dataset, toy_teacher, settings, 4 * MIB)] == [2]


def test_kernel_matrices_grow_with_the_square_of_the_pairs() -> None:
    limit = InfiniteWidthSolver(4, 0.1, 100, memory=2**31)
    small, large = (
        limit.required_bytes(1, pairs, 256, 3, dtype=torch.float32) for pairs in (2_000, 4_000)
    )
    assert 3.5 < large / small < 4
    with pytest.raises(ObdError, match="of 65536 pairs"):
        limit.required_bytes(1, 65_536, 256, 3, dtype=torch.float32)


def test_every_policy_keeps_five_matrices_between_states_and_pairs() -> None:
    """Cosine, value, both derivatives, and the stack of values."""
    few, many = (
        InfiniteWidthSolver(4, 0.1, 1).required_bytes(3, 10, states, 3, dtype=torch.float64)
        for states in (1_000, 2_000)
    )
    kept, work = 3 * 10 * 1_000 * 5, 3 * 1_000 * 10
    assert many - few == 8 * (kept + work)


def spec(**overrides: Any) -> TrialSpec:
    settings = resolve_settings("fast", overrides)
    return TrialSpec(dataset="embedded/hopper-medium-v0", objective="pbc", settings=settings)


def test_the_dry_run_knows_all_ways() -> None:
    """Bytes beyond those of the interpreter, bounded by the memory."""

    def kept(memory: float = 2.0, **overrides: Any) -> float:
        return estimate.peak(spec(**overrides), memory) - estimate.PROCESS_BYTES

    bound = 2 * 2**30
    assert kept(kernel_share=0.0, inner_steps=10) < kept(kernel_share=0.0, inner_steps=40) < bound
    assert kept(kernel_share=0.0, inner_steps=5000) <= bound
    assert kept(kernel_share=0.0, inner_optimizer="sgdm", inner_steps=5000) <= bound
    assert kept(kernel_share=1.0) < bound / 20
    assert kept(kernel_share=1.0, pairs=6_000) > bound / 2
    assert kept(kernel_share=1.0, pairs=60_000) == bound
    momentum, adam = (
        kept(kernel_share=0.0, inner_optimizer=name, inner_steps=20) for name in ("sgdm", "adam")
    )
    assert adam == pytest.approx(1.5 * momentum)
    random = spec().model_copy(update={"objective": "random"})
    assert estimate.peak(random) == estimate.PROCESS_BYTES


def test_the_solver_says_what_it_takes() -> None:
    ways = StepMethods(resolve_settings("fast", {"kernel_share": 0.0}), 2**31)
    assert isinstance(ways.solver, MetaGradientSolver)
    slots = ways.required_bytes(3, 11, 3) / ways.needs(1, 11, 3)
    assert slots == pytest.approx(3)
