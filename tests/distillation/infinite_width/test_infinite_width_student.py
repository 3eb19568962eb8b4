"""Infinite width: the kernel, the gradient, and the distance of students of finite width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.toys import make_toy_dataset, make_toy_teacher

from obdbench.distillation.infinite_width.student import InfiniteWidthStudent
from obdbench.distillation.infinite_width.tangent_kernel import TangentKernel
from obdbench.distillation.loop import Progress, distill_points
from obdbench.distillation.outer_optimizer import OuterOptimizer, learning_rate
from obdbench.distillation.settings import DistillSettings, resolve_settings
from obdbench.errors import ObdError
from obdbench.experiments.spec import TrialSpec
from obdbench.objectives.objective import make_objective
from obdbench.policies.cloning import CloningConfig, clone
from obdbench.policies.networks import Architecture, seeded_generator, with_width
from obdbench.policies.optimizers import get_optimizer

DOUBLE = torch.float64


def inputs(
    pairs: int = 7, states: int = 70, stack: int = 2
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(stack, pairs, 11, generator=generator, dtype=DOUBLE)
    a = torch.rand(stack, pairs, 3, generator=generator, dtype=DOUBLE) * 1.8 - 0.9
    s = torch.randn(stack, states, 11, generator=generator, dtype=DOUBLE)
    target = torch.rand(stack, states, 3, generator=generator, dtype=DOUBLE) * 2 - 1
    return x, a, s, target


@pytest.mark.parametrize("depth", [2, 4, 6])
def test_kernel_equals_that_of_wide_networks(depth: int) -> None:
    """Compare with inner products of gradients at width 256, averaged over draws."""
    x, _, s, _ = inputs(pairs=3, states=4, stack=1)
    architecture = Architecture("wide", depth, width=256)
    actual = torch.zeros(4, 3, dtype=DOUBLE)
    draws = 16
    for seed in range(draws):
        params = architecture.init([seeded_generator(seed, 1)], 11, 3, dtype=DOUBLE)
        gradients = []
        for point in [*s[0], *x[0]]:
            leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
            mean, _ = architecture.apply(leaves, point[None])
            parts = torch.autograd.grad(mean[0, 0, 0], list(leaves.values()))
            gradients.append(torch.cat([part.flatten() for part in parts]))
        rows = torch.stack(gradients)
        actual += rows[:4] @ rows[4:].T / draws
    expected = TangentKernel.between(s[0], x[0], depth).value
    assert (actual - expected).norm() / expected.norm() < 0.05


@pytest.mark.parametrize("depth", [2, 4])
def test_gradient_equals_central_differences(depth: int) -> None:
    """Along random directions, in states and in actions."""
    x, a, s, target = inputs()
    infinite_width = InfiniteWidthStudent(depth, lr=0.3, steps=12)
    gradient = infinite_width.meta_gradient(
        x, a, s, lambda actions: (actions - target).square().mean((-2, -1))
    )
    generator = torch.Generator().manual_seed(9)
    for values, gradient_part in ((x, gradient.states), (a, gradient.actions)):
        for _ in range(4):
            direction = torch.randn(values.shape, generator=generator, dtype=DOUBLE)
            values_at_sides = []
            for sign in (1.0, -1.0):
                values.add_(direction, alpha=sign * 1e-6)
                actions = infinite_width.act(x, a, s)
                values_at_sides.append((actions - target).square().mean((-2, -1)).sum())
                values.sub_(direction, alpha=sign * 1e-6)
            slope = (values_at_sides[0] - values_at_sides[1]) / 2e-6
            assert torch.isclose((gradient_part * direction).sum(), slope, rtol=1e-6, atol=1e-10)


def test_gradient_from_a_drawn_initial_output_equals_central_differences() -> None:
    """The objective equals that of the recursion written out, and differs from that at f_0 = 0."""
    x, a, s, target = inputs()
    student = Architecture("narrow", 4, width=32)
    params = student.init([seeded_generator(i, 5) for i in range(2)], 11, 3, dtype=DOUBLE)
    infinite_width = InfiniteWidthStudent(4, lr=0.3, steps=12)

    def initial_output(states: torch.Tensor) -> torch.Tensor:
        return student.apply(params, states)[0]

    def value(pairs: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        losses = []
        for i in range(2):
            theta = TangentKernel.between(pairs[i], pairs[i], 4).value
            reach = TangentKernel.between(s[i], pairs[i], 4).value
            f, total = initial_output(pairs)[i], 0
            for _ in range(12):
                y = torch.tanh(f)
                slope = 2 / a[i].numel() * (y - actions[i]) * (1 - y * y)
                f, total = f - 0.3 * theta @ slope, total + slope
            actions_at_states = torch.tanh(initial_output(s)[i] - 0.3 * reach @ total)
            losses.append((actions_at_states - target[i]).square().mean())
        return torch.stack(losses)

    def objective(actions: torch.Tensor) -> torch.Tensor:
        return (actions - target).square().mean((-2, -1))

    gradient = infinite_width.meta_gradient(x, a, s, objective, initial_output)
    assert torch.allclose(gradient.loss, value(x, a), rtol=1e-12)
    assert not torch.allclose(
        gradient.loss, infinite_width.meta_gradient(x, a, s, objective).loss, rtol=1e-3
    )
    generator = torch.Generator().manual_seed(9)
    for position, gradient_part in ((0, gradient.states), (1, gradient.actions)):
        direction = torch.randn(gradient_part.shape, generator=generator, dtype=DOUBLE)
        values_at_sides = []
        for sign in (1.0, -1.0):
            moved = [x, a]
            moved[position] = moved[position] + sign * 1e-6 * direction
            values_at_sides.append(value(moved[0], moved[1]).sum())
        slope = (values_at_sides[0] - values_at_sides[1]) / 2e-6
        assert torch.isclose((gradient_part * direction).sum(), slope, rtol=1e-6, atol=1e-10)


def test_gradient_is_finite_at_equal_opposite_and_zero_states() -> None:
    x, a, s, target = inputs()
    x[0, 1], x[0, 2], s[0, 0] = x[0, 0], -x[0, 0], x[0, 0]
    x[1, 0] = 0.0
    gradient = InfiniteWidthStudent(4, 0.1, 20).meta_gradient(
        x, a, s, lambda y: (y - target).square().mean((-2, -1))
    )
    assert torch.isfinite(gradient.states).all()
    assert torch.isfinite(gradient.actions).all()


def test_wide_students_are_near_the_infinite_width_actions() -> None:
    """The mean action of wide students is near the limit, that of narrow ones farther away."""
    x, a, s, _ = inputs(pairs=24, states=40, stack=1)
    expected = InfiniteWidthStudent(3, lr=0.1, steps=40).act(x, a, s)[0]
    distance = {}
    for width in (16, 512):
        architecture = Architecture("wide", 3, width=width)
        cloning = CloningConfig(architecture, get_optimizer("sgd"), 0.1, 40)
        draws = 12
        params = architecture.init(
            [seeded_generator(i, 2) for i in range(draws)], 11, 3, dtype=DOUBLE
        )
        learned = clone(cloning, params, x.expand(draws, -1, -1), a.expand(draws, -1, -1))
        mean = architecture.act(learned, s[0]).mean(0)
        distance[width] = float((mean - expected).square().mean().sqrt())
    assert distance[512] < 0.06
    assert distance[512] < 0.7 * distance[16]


def test_distillation_with_both_phases_resumes_bit_for_bit(tmp_path: Path) -> None:
    dataset = make_toy_dataset()
    teacher = make_toy_teacher(dataset)
    settings = resolve_settings(
        "tiny",
        {
            "pairs": 8,
            "inner_steps": 4,
            "steps": 7,
            "kernel_share": 0.6,
            "kernel_batch": 40,
            "kernel_start": "drawn",
            "width": 12,
            "evaluate_at": (0, 1),
        },
    )

    def points(snapshot: Path | None = None, stop: int | None = None) -> list[np.ndarray]:
        def interrupt(now: Progress) -> None:
            if stop is not None and now.step >= stop:
                raise KeyboardInterrupt

        actual = list(
            distill_points(
                dataset,
                teacher,
                make_objective("av-pbc"),
                settings,
                [0, 1],
                snapshot=snapshot,
                snapshot_seconds=0.0,
                progress=interrupt,
                progress_seconds=0.0,
            )
        )
        return [synset.states for synset in actual[-1].synsets]

    uninterrupted = points()
    for stop in (2, 5):
        snapshot = tmp_path / f"{stop}"
        with pytest.raises(KeyboardInterrupt):
            points(snapshot, stop)
        for left_point, right_point in zip(uninterrupted, points(snapshot), strict=True):
            assert np.array_equal(left_point, right_point)


def test_each_phase_has_its_own_schedule_and_moments() -> None:
    settings = DistillSettings(steps=30, kernel_share=2 / 3, kernel_lr=0.5, outer_lr=0.1)
    rates = [learning_rate(settings, step) for step in range(30)]
    assert rates[0] == 0.5
    assert rates[20] == 0.1
    assert rates[19] < 0.01
    assert rates[29] < 0.01
    optimizer, value = OuterOptimizer(settings), torch.zeros(1, 2, 3)
    for step in range(21):
        before = value.clone()
        optimizer.update(step, [value], [torch.full_like(value, 10.0 if step < 20 else -1.0)])
    assert torch.allclose(value - before, torch.full_like(value, 0.1), atol=1e-5)


def test_infinite_width_needs_sgd_as_inner_optimizer() -> None:
    with pytest.raises(ObdError, match="kernel_share"):
        resolve_settings("tiny", {"kernel_share": 0.5, "inner_optimizer": "adam"})


def test_width_changes_the_exact_steps() -> None:
    """Only plain MLPs accept another width."""
    dataset = make_toy_dataset()
    teacher = make_toy_teacher(dataset)

    def states(**settings: object) -> np.ndarray:
        chosen = resolve_settings("tiny", {"pairs": 8, "inner_steps": 4, "steps": 2, **settings})
        points = distill_points(dataset, teacher, make_objective("pbc"), chosen, [0])
        return list(points)[-1].synsets[0].states

    assert np.array_equal(states(), states(width=256))
    assert not np.array_equal(states(), states(width=16))
    with pytest.raises(ObdError, match="width"):
        with_width(object(), 16)  # type: ignore[arg-type]


def test_settings_of_the_infinite_width_phase_are_part_of_a_trial_key() -> None:
    spec = TrialSpec(dataset="embedded/hopper-medium-v1", objective="pbc")
    variants: list[dict[str, Any]] = [
        {},
        {"kernel_lr": 0.5},
        {"kernel_share": 0.5},
        {"kernel_share": 0.5, "kernel_start": "drawn"},
        {"width": 128},
    ]
    keys = {
        spec.model_copy(update={"settings": DistillSettings(**overrides)}).key
        for overrides in variants
    }
    assert spec.key in keys
    assert len(keys) == len(variants)
