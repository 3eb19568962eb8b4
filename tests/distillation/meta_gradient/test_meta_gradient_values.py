"""The meta-gradient's values: against finite differences, autograd, and itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.gradients import (
    ARCHITECTURES,
    DOUBLE,
    STACK,
    STEPS,
    cloning,
    noise_of,
    problem,
    relative,
    simple_outer,
    start,
    unrolled,
)
from support.toys import make_toy_dataset, make_toy_teacher
from torch import Tensor

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.batch_sampler import BatchSampler
from obdbench.distillation.meta_gradient.outer_gradient import OuterLoss
from obdbench.distillation.meta_gradient.solver import MetaGradientSolver
from obdbench.errors import ObdError
from obdbench.objectives.density import gaussian_log_density
from obdbench.objectives.objective import make_objective
from obdbench.policies.cloning import CloningConfig
from obdbench.policies.networks import Architecture, Params, seeded_generator
from obdbench.policies.optimizers import OPTIMIZERS, get_optimizer
from obdbench.tasks.task import TASKS


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_equals_autograd_through_the_loop(
    architecture: Architecture, optimizer: str, sampled: bool
) -> None:
    how, (x, a) = cloning(architecture, optimizer), problem()
    noise = noise_of() if sampled else None
    losses, gx, ga = unrolled(how, start(how), x, a, simple_outer(how), noise)
    for fast in (True, False):
        found = MetaGradientSolver(how, fast=fast)(start(how), x, a, simple_outer(how), noise=noise)
        assert torch.allclose(found.loss, losses, rtol=1e-12)
        assert relative(found.states, gx) < 1e-11
        assert relative(found.actions, ga) < 1e-11


def central_difference(
    value: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    a: Tensor,
    dx: Tensor,
    da: Tensor,
    h: float,
) -> float:
    """Fourth-order central difference along a direction."""

    def at(t: float) -> float:
        return float(value(x + t * h * dx, a + t * h * da).sum())

    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h)


STEP_SIZES = (1e-6, 1e-5, 1e-7, 1e-8, 1e-9)


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
@pytest.mark.parametrize("objective", ["dbc", "pbc", "av-pbc", "sdw"])
def test_equals_finite_differences(
    architecture: Architecture, optimizer: str, objective: str
) -> None:
    how, (x, a) = cloning(architecture, optimizer, 4), problem()
    outer = outer_of(objective, how)

    def value(x: Tensor, a: Tensor) -> Tensor:
        return MetaGradientSolver(how)(start(how), x, a, outer).loss

    found = MetaGradientSolver(how)(start(how), x, a, outer)
    generator = torch.Generator().manual_seed(5)
    for _ in range(2):
        dx = torch.randn(x.shape, generator=generator, dtype=DOUBLE)
        da = torch.randn(a.shape, generator=generator, dtype=DOUBLE)
        slope = float((found.states * dx).sum() + (found.actions * da).sum())
        # Adam's first updates are close to the sign of a gradient: where one changes sign within
        # the step there is a kink, so the step shrinks until none is in the way.
        norm = float((found.states.square().sum() + found.actions.square().sum()).sqrt())
        errors = []
        for h in STEP_SIZES:
            expected = central_difference(value, x, a, dx, da, h)
            errors.append(abs(slope - expected) / max(abs(expected), norm))
            if errors[-1] < 1e-6:
                break
        assert min(errors) < 1e-6


_OUTERS: dict[str, tuple[BatchSampler, Dataset]] = {}


def outer_of(name: str, how: CloningConfig) -> OuterLoss:
    """A real objective on toy data, in float64."""
    objective = make_objective(name)
    if name not in _OUTERS:
        monkeypatch = pytest.MonkeyPatch()
        monkeypatch.setattr(
            "obdbench.objectives.sdw.log_density",
            lambda d: gaussian_log_density(d.states, d.states),
        )
        dataset = make_toy_dataset(200)
        teacher = make_toy_teacher(dataset)
        columns = objective.prepare(dataset, teacher, np.random.default_rng(0))
        monkeypatch.undo()
        feed = BatchSampler.from_dataset(dataset, columns, "cpu")
        feed.columns = {key: value.to(DOUBLE) for key, value in feed.columns.items()}
        _OUTERS[name] = (feed, dataset)
    feed, _ = _OUTERS[name]
    batch = feed.draw(16, [seeded_generator(s, 2) for s in range(STACK)])
    return lambda p: objective.loss(how.architecture.act(p, batch.states), batch)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("sampled", [False, True])
def test_a_batch_of_seeds_equals_single_seeds(fast: bool, sampled: bool) -> None:
    how, (x, a) = cloning(ARCHITECTURES[2], "sgd"), problem()
    noise = noise_of() if sampled else None
    params = start(how)
    together = MetaGradientSolver(how, fast=fast)(params, x, a, simple_outer(how), noise=noise)
    for s in range(STACK):
        alone = MetaGradientSolver(how, fast=fast)(
            {name: value[s : s + 1] for name, value in params.items()},
            x[s : s + 1],
            a[s : s + 1],
            simple_outer(how),
            noise=None if noise is None else noise[:, s : s + 1],
        )
        assert relative(together.states[s : s + 1], alone.states) < 1e-12
        assert relative(together.actions[s : s + 1], alone.actions) < 1e-12


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("slots", [3, 4, 7])
def test_segments_give_the_same_bits(slots: int, sampled: bool) -> None:
    how, (x, a) = cloning(ARCHITECTURES[2], "sgd"), problem()
    noise = noise_of() if sampled else None
    whole = MetaGradientSolver(how)
    expected = whole(start(how), x, a, simple_outer(how), noise=noise)
    assert whole._sweeps is not None
    (buffers,) = whole._sweeps.sweeps
    assert buffers.slots == STEPS
    pieces = MetaGradientSolver(how, memory=slots * buffers.slot_bytes + 1)
    found = pieces(start(how), x, a, simple_outer(how), noise=noise)
    assert pieces._sweeps is not None
    assert pieces._sweeps.sweeps[0].slots == slots
    assert torch.equal(found.states, expected.states)
    assert torch.equal(found.actions, expected.actions)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("window", [1, 3, STEPS])
def test_a_window_differentiates_the_last_steps_only(window: int, fast: bool) -> None:
    how, (x, a) = cloning(ARCHITECTURES[1], "sgd"), problem()
    found = MetaGradientSolver(how, fast=fast)(start(how), x, a, simple_outer(how), window=window)
    params, state = start(how), how.optimizer.init({})
    from obdbench.policies.cloning import clone_step

    for _ in range(STEPS - window):
        params, state = clone_step(how, params, state, x, a)
    late = CloningConfig(how.architecture, how.optimizer, how.lr, window)
    _, gx, ga = unrolled(
        late, {k: v.detach() for k, v in params.items()}, x, a, simple_outer(how), None
    )
    assert relative(found.states, gx) < 1e-11
    assert relative(found.actions, ga) < 1e-11


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("slots", [2, 3])
def test_segments_within_a_window_give_the_same_bits(slots: int, sampled: bool) -> None:
    how, (x, a) = cloning(ARCHITECTURES[2], "sgd"), problem()
    noise = noise_of() if sampled else None
    whole = MetaGradientSolver(how)
    expected = whole(start(how), x, a, simple_outer(how), noise=noise, window=5)
    assert whole._sweeps is not None
    (buffers,) = whole._sweeps.sweeps
    assert buffers.slots == 5  # the steps before the window need no room
    pieces = MetaGradientSolver(how, memory=slots * buffers.slot_bytes + 1)
    found = pieces(start(how), x, a, simple_outer(how), noise=noise, window=5)
    assert torch.equal(found.states, expected.states)
    assert torch.equal(found.actions, expected.actions)


@pytest.mark.parametrize("fast", [True, False])
def test_an_inner_loop_ended_early_is_a_shorter_loop(fast: bool) -> None:
    """Random truncation: loops of changing lengths in the same buffers."""
    how, (x, a) = cloning(ARCHITECTURES[2], "sgd"), problem()
    solver = MetaGradientSolver(how, fast=fast)
    solver(start(how), x, -a, simple_outer(how), window=3)
    buffers = solver._sweeps
    for steps in (5, 3, STEPS, 4):
        short = CloningConfig(how.architecture, how.optimizer, how.lr, steps)
        found = solver(start(how), x, a, simple_outer(how), window=3, steps=steps)
        expected = MetaGradientSolver(short, fast=fast)(
            start(how), x, a, simple_outer(how), window=3
        )
        assert torch.equal(found.loss, expected.loss)
        assert torch.equal(found.states, expected.states)
        assert torch.equal(found.actions, expected.actions)
    assert solver._sweeps is buffers


@pytest.mark.parametrize("fast", [True, False])
def test_published_noise_is_redrawn_on_the_way_back(fast: bool) -> None:
    how, (x, a) = cloning(ARCHITECTURES[2], "sgd"), problem()
    outer, forth, back = simple_outer(how), noise_of(seed=1), noise_of(seed=2)
    exact = MetaGradientSolver(how, fast=fast)(start(how), x, a, outer, noise=forth)
    same = MetaGradientSolver(how, fast=fast)(
        start(how), x, a, outer, noise=forth, reverse_noise=forth
    )
    published = MetaGradientSolver(how, fast=fast)(
        start(how), x, a, outer, noise=forth, reverse_noise=back
    )
    assert relative(same.states, exact.states) < 1e-12
    assert torch.equal(published.loss, exact.loss)
    assert relative(published.states, exact.states) > 1e-3


def test_published_noise_is_the_same_on_both_paths() -> None:
    how, (x, a) = cloning(ARCHITECTURES[2], "sgd"), problem()
    outer, forth, back = simple_outer(how), noise_of(seed=1), noise_of(seed=2)
    fast, general = (
        MetaGradientSolver(how, fast=fast)(start(how), x, a, outer, noise=forth, reverse_noise=back)
        for fast in (True, False)
    )
    assert relative(fast.states, general.states) < 1e-11
    assert relative(fast.actions, general.actions) < 1e-11


def test_buffers_are_reused_without_memory_of_the_last_call() -> None:
    how, (x, a) = cloning(ARCHITECTURES[2], "sgd"), problem()
    solver = MetaGradientSolver(how)
    first = solver(start(how), x, a, simple_outer(how))
    solver(start(how), 2 * x, -a, simple_outer(how))
    again = solver(start(how), x, a, simple_outer(how))
    assert torch.equal(first.states, again.states)
    assert torch.equal(first.actions, again.actions)


def test_too_little_memory_is_one_clear_error() -> None:
    how, (x, a) = cloning(ARCHITECTURES[2], "sgd"), problem()
    with pytest.raises(ObdError, match="--memory"):
        MetaGradientSolver(how, memory=1000)(start(how), x, a, simple_outer(how))


SHAPES_IN_USE = sorted({(task.observation_size, task.action_size) for task in TASKS.values()})


@pytest.mark.parametrize("sampled", [False, True], ids=["mean", "sampled"])
@pytest.mark.parametrize("sizes", SHAPES_IN_USE, ids=str)
def test_the_fast_path_at_full_size(sizes: tuple[int, int], sampled: bool) -> None:
    """100 inner steps, width 256, float64: the two paths agree to 1e-10."""
    observation, action = sizes
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 32, observation, generator=generator, dtype=DOUBLE)
    a = torch.rand(1, 32, action, generator=generator, dtype=DOUBLE) * 1.8 - 0.9
    states = torch.randn(64, observation, generator=generator, dtype=DOUBLE)
    noise = torch.randn(100, 1, 32, action, generator=generator, dtype=DOUBLE)
    how = CloningConfig(Architecture("mlp4", 4), get_optimizer("sgd"), 0.1, 100)
    params = how.architecture.init([seeded_generator(0)], observation, action, dtype=DOUBLE)

    def outer(p: Params) -> Tensor:
        return how.architecture.act(p, states).square().mean((-1, -2))

    fast, general = (
        MetaGradientSolver(how, fast=fast)(params, x, a, outer, noise=noise if sampled else None)
        for fast in (True, False)
    )
    assert relative(fast.states, general.states) < 1e-10
    assert relative(fast.actions, general.actions) < 1e-10


KINK = 1e-4


def test_float32_is_as_close_to_float64_as_on_the_general_path() -> None:
    """100 inner steps in float32, both paths against float64.

    A rounding error can push a unit over its kink, and the gradient then jumps by per cents: a
    matter of chance, which must strike both paths about equally often. Where it strikes neither,
    what is left is rounding, and must be of the same size.
    """
    stack, pairs = 32, 16
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(stack, pairs, 11, generator=generator)
    a = torch.rand(stack, pairs, 3, generator=generator) * 1.8 - 0.9
    states = torch.randn(128, 11, generator=generator)
    target = torch.rand(128, 3, generator=generator)
    how = CloningConfig(Architecture("mlp4", 4, width=64), get_optimizer("sgd"), 0.1, 100)
    start = how.architecture.init([seeded_generator(s) for s in range(stack)], 11, 3)

    def found(dtype: torch.dtype, fast: bool) -> Tensor:
        def outer(p: Params) -> Tensor:
            acted = how.architecture.act(p, states.to(dtype))
            return (acted - target.to(dtype)).square().mean((-1, -2))

        params = {name: value.to(dtype) for name, value in start.items()}
        gradient = MetaGradientSolver(how, fast=fast)(params, x.to(dtype), a.to(dtype), outer)
        return torch.cat([gradient.states.flatten(1), gradient.actions.flatten(1)], 1).to(DOUBLE)

    exact = found(DOUBLE, fast=True)
    fast, general = (
        (found(torch.float32, fast=fast) - exact).norm(dim=1) / exact.norm(dim=1)
        for fast in (True, False)
    )
    smooth = (fast < KINK) & (general < KINK)
    assert int(smooth.sum()) >= 4
    assert float((fast[smooth].log() - general[smooth].log()).mean().exp()) < 2.0
    struck, expected = int((fast > KINK).sum()), int((general > KINK).sum())
    assert abs(struck - expected) <= 3.0 * (2 * stack * 0.25) ** 0.5  # three standard deviations
