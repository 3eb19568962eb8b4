"""Values of the meta-gradient against finite differences, autograd, and the other method."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.gaussian_density import gaussian_log_density
from support.gradients import (
    ARCHITECTURES,
    DOUBLE,
    MLP3,
    MLP4,
    RESIDUAL,
    STACK,
    STEPS,
    autograd_meta_gradient,
    initial_params,
    make_cloning,
    random_noise,
    random_synsets,
    relative_error,
    squared_error,
)
from support.toys import make_toy_dataset, make_toy_teacher
from torch import Tensor

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.batch_sampler import BatchSampler
from obdbench.distillation.meta_gradient.outer_gradient import OuterLoss
from obdbench.distillation.meta_gradient.unrolled import UnrolledMetaGradient
from obdbench.errors import ObdError
from obdbench.objectives.objective import make_objective
from obdbench.policies.cloning import CloningConfig, clone_step
from obdbench.policies.networks import Architecture, Params, seeded_generator
from obdbench.policies.optimizers import OPTIMIZERS, get_optimizer
from obdbench.tasks.task import TASKS


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_meta_gradient_equals_autograd_through_the_inner_loop(
    architecture: Architecture, optimizer: str, sampled: bool
) -> None:
    cloning, (x, a) = make_cloning(architecture, optimizer), random_synsets()
    noise = random_noise() if sampled else None
    losses, gx, ga = autograd_meta_gradient(
        cloning, initial_params(cloning), x, a, squared_error(cloning), noise
    )
    for use_reverse_sweep in (True, False):
        actual = UnrolledMetaGradient(cloning, use_reverse_sweep=use_reverse_sweep)(
            initial_params(cloning), x, a, squared_error(cloning), noise=noise
        )
        assert torch.allclose(actual.loss, losses, rtol=1e-12)
        assert relative_error(actual.states, gx) < 1e-11
        assert relative_error(actual.actions, ga) < 1e-11


def central_difference(
    value: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    a: Tensor,
    dx: Tensor,
    da: Tensor,
    h: float,
) -> float:
    """Return the fourth-order central difference along a direction."""

    def value_at(t: float) -> float:
        return float(value(x + t * h * dx, a + t * h * da).sum())

    return (8 * (value_at(1) - value_at(-1)) - (value_at(2) - value_at(-2))) / (12 * h)


STEP_SIZES = (1e-6, 1e-5, 1e-7, 1e-8, 1e-9)


QUICK = ((MLP4, "sgd"), (RESIDUAL, "adam"))  # for all objectives; pbc takes every student
COMBINATIONS = [
    pytest.param(
        *(objective, architecture, optimizer),
        id=f"{objective}-{architecture.name}-{optimizer}",
        marks=() if objective == "pbc" or (architecture, optimizer) in QUICK else pytest.mark.slow,
    )
    for objective in ("dbc", "pbc", "av-pbc", "sdw")
    for architecture in ARCHITECTURES
    for optimizer in OPTIMIZERS
]


@pytest.mark.parametrize(("objective", "architecture", "optimizer"), COMBINATIONS)
def test_meta_gradient_equals_finite_differences(
    objective: str, architecture: Architecture, optimizer: str
) -> None:
    cloning, (x, a) = make_cloning(architecture, optimizer, 4), random_synsets()
    outer_loss = objective_loss(objective, cloning)

    def value(x: Tensor, a: Tensor) -> Tensor:
        return UnrolledMetaGradient(cloning)(initial_params(cloning), x, a, outer_loss).loss

    actual = UnrolledMetaGradient(cloning)(initial_params(cloning), x, a, outer_loss)
    generator = torch.Generator().manual_seed(5)
    for _ in range(2):
        dx = torch.randn(x.shape, generator=generator, dtype=DOUBLE)
        da = torch.randn(a.shape, generator=generator, dtype=DOUBLE)
        slope = float((actual.states * dx).sum() + (actual.actions * da).sum())
        # Adam's first updates are close to the sign of a gradient. Where a gradient changes sign
        # within the difference there is a kink, so smaller differences are tried as well.
        norm = float((actual.states.square().sum() + actual.actions.square().sum()).sqrt())
        errors = []
        for h in STEP_SIZES:
            expected = central_difference(value, x, a, dx, da, h)
            errors.append(abs(slope - expected) / max(abs(expected), norm))
            if errors[-1] < 1e-6:
                break
        assert min(errors) < 1e-6


_SAMPLERS: dict[str, tuple[BatchSampler, Dataset]] = {}


def objective_loss(name: str, cloning: CloningConfig) -> OuterLoss:
    """Return a registered objective on toy data, in float64."""
    objective = make_objective(name)
    if name not in _SAMPLERS:
        monkeypatch = pytest.MonkeyPatch()
        monkeypatch.setattr(
            "obdbench.objectives.sdw.log_density",
            lambda d: gaussian_log_density(d.states, d.states),
        )
        dataset = make_toy_dataset(200)
        teacher = make_toy_teacher(dataset)
        columns = objective.prepare(dataset, teacher, np.random.default_rng(0))
        monkeypatch.undo()
        sampler = BatchSampler.from_dataset(dataset, columns, "cpu")
        sampler.columns = {key: value.to(DOUBLE) for key, value in sampler.columns.items()}
        _SAMPLERS[name] = (sampler, dataset)
    sampler, _ = _SAMPLERS[name]
    batch = sampler.draw(16, [seeded_generator(s, 2) for s in range(STACK)])
    return lambda p: objective.loss(cloning.architecture.act(p, batch.states), batch)


@pytest.mark.parametrize("use_reverse_sweep", [True, False])
@pytest.mark.parametrize("sampled", [False, True])
def test_stacked_seeds_equal_single_seeds(use_reverse_sweep: bool, sampled: bool) -> None:
    cloning, (x, a) = make_cloning(MLP4, "sgd"), random_synsets()
    noise = random_noise() if sampled else None
    params = initial_params(cloning)
    together = UnrolledMetaGradient(cloning, use_reverse_sweep=use_reverse_sweep)(
        params, x, a, squared_error(cloning), noise=noise
    )
    for s in range(STACK):
        alone = UnrolledMetaGradient(cloning, use_reverse_sweep=use_reverse_sweep)(
            {name: value[s : s + 1] for name, value in params.items()},
            x[s : s + 1],
            a[s : s + 1],
            squared_error(cloning),
            noise=None if noise is None else noise[:, s : s + 1],
        )
        assert relative_error(together.states[s : s + 1], alone.states) < 1e-12
        assert relative_error(together.actions[s : s + 1], alone.actions) < 1e-12


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("kept_steps", [3, 4, 7])
def test_segments_of_the_inner_loop_give_the_same_bits(kept_steps: int, sampled: bool) -> None:
    cloning, (x, a) = make_cloning(MLP4, "sgd"), random_synsets()
    noise = random_noise() if sampled else None
    unsegmented = UnrolledMetaGradient(cloning)
    expected = unsegmented(initial_params(cloning), x, a, squared_error(cloning), noise=noise)
    assert unsegmented.reverse_sweep is not None
    (buffers,) = unsegmented.reverse_sweep.sweeps
    assert buffers.kept_steps == STEPS
    segmented = UnrolledMetaGradient(cloning, memory=kept_steps * buffers.record_bytes + 1)
    actual = segmented(initial_params(cloning), x, a, squared_error(cloning), noise=noise)
    assert segmented.reverse_sweep is not None
    assert segmented.reverse_sweep.sweeps[0].kept_steps == kept_steps
    assert torch.equal(actual.states, expected.states)
    assert torch.equal(actual.actions, expected.actions)


@pytest.mark.parametrize("use_reverse_sweep", [True, False])
@pytest.mark.parametrize("window", [1, 3, STEPS])
def test_window_differentiates_only_the_last_steps(window: int, use_reverse_sweep: bool) -> None:
    cloning, (x, a) = make_cloning(MLP3, "sgd"), random_synsets()
    actual = UnrolledMetaGradient(cloning, use_reverse_sweep=use_reverse_sweep)(
        initial_params(cloning), x, a, squared_error(cloning), window=window
    )
    params, state = initial_params(cloning), cloning.optimizer.init({})
    for _ in range(STEPS - window):
        params, state = clone_step(cloning, params, state, x, a)
    last_steps = CloningConfig(cloning.architecture, cloning.optimizer, cloning.lr, window)
    _, gx, ga = autograd_meta_gradient(
        last_steps, {k: v.detach() for k, v in params.items()}, x, a, squared_error(cloning), None
    )
    assert relative_error(actual.states, gx) < 1e-11
    assert relative_error(actual.actions, ga) < 1e-11


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("kept_steps", [2, 3])
def test_segments_within_a_window_give_the_same_bits(kept_steps: int, sampled: bool) -> None:
    cloning, (x, a) = make_cloning(MLP4, "sgd"), random_synsets()
    noise = random_noise() if sampled else None
    unsegmented = UnrolledMetaGradient(cloning)
    expected = unsegmented(
        initial_params(cloning), x, a, squared_error(cloning), noise=noise, window=5
    )
    assert unsegmented.reverse_sweep is not None
    (buffers,) = unsegmented.reverse_sweep.sweeps
    assert buffers.kept_steps == 5  # steps before the window are not kept
    segmented = UnrolledMetaGradient(cloning, memory=kept_steps * buffers.record_bytes + 1)
    actual = segmented(initial_params(cloning), x, a, squared_error(cloning), noise=noise, window=5)
    assert torch.equal(actual.states, expected.states)
    assert torch.equal(actual.actions, expected.actions)


@pytest.mark.parametrize("use_reverse_sweep", [True, False])
def test_shortened_inner_loop_equals_a_loop_of_fewer_steps(use_reverse_sweep: bool) -> None:
    """As in random truncation, loops of several lengths use the same buffers."""
    cloning, (x, a) = make_cloning(MLP4, "sgd"), random_synsets()
    solver = UnrolledMetaGradient(cloning, use_reverse_sweep=use_reverse_sweep)
    solver(initial_params(cloning), x, -a, squared_error(cloning), window=3)
    buffers = solver.reverse_sweep
    for steps in (5, 3, STEPS, 4):
        short = CloningConfig(cloning.architecture, cloning.optimizer, cloning.lr, steps)
        actual = solver(
            initial_params(cloning), x, a, squared_error(cloning), window=3, steps=steps
        )
        expected = UnrolledMetaGradient(short, use_reverse_sweep=use_reverse_sweep)(
            initial_params(cloning), x, a, squared_error(cloning), window=3
        )
        assert torch.equal(actual.loss, expected.loss)
        assert torch.equal(actual.states, expected.states)
        assert torch.equal(actual.actions, expected.actions)
    assert solver.reverse_sweep is buffers


@pytest.mark.parametrize("use_reverse_sweep", [True, False])
def test_reverse_noise_replaces_the_noise_of_the_reverse_pass(use_reverse_sweep: bool) -> None:
    cloning, (x, a) = make_cloning(MLP4, "sgd"), random_synsets()
    outer_loss, noise, reverse_noise = (
        squared_error(cloning),
        random_noise(seed=1),
        random_noise(seed=2),
    )
    exact = UnrolledMetaGradient(cloning, use_reverse_sweep=use_reverse_sweep)(
        initial_params(cloning), x, a, outer_loss, noise=noise
    )
    same = UnrolledMetaGradient(cloning, use_reverse_sweep=use_reverse_sweep)(
        initial_params(cloning), x, a, outer_loss, noise=noise, reverse_noise=noise
    )
    published = UnrolledMetaGradient(cloning, use_reverse_sweep=use_reverse_sweep)(
        initial_params(cloning), x, a, outer_loss, noise=noise, reverse_noise=reverse_noise
    )
    assert relative_error(same.states, exact.states) < 1e-12
    assert torch.equal(published.loss, exact.loss)
    assert relative_error(published.states, exact.states) > 1e-3


def test_reverse_noise_has_the_same_effect_in_both_methods() -> None:
    cloning, (x, a) = make_cloning(MLP4, "sgd"), random_synsets()
    outer_loss, noise, reverse_noise = (
        squared_error(cloning),
        random_noise(seed=1),
        random_noise(seed=2),
    )
    swept, general = (
        UnrolledMetaGradient(cloning, use_reverse_sweep=use_reverse_sweep)(
            initial_params(cloning), x, a, outer_loss, noise=noise, reverse_noise=reverse_noise
        )
        for use_reverse_sweep in (True, False)
    )
    assert relative_error(swept.states, general.states) < 1e-11
    assert relative_error(swept.actions, general.actions) < 1e-11


def test_reused_buffers_carry_nothing_over_from_the_call_before() -> None:
    cloning, (x, a) = make_cloning(MLP4, "sgd"), random_synsets()
    solver = UnrolledMetaGradient(cloning)
    first = solver(initial_params(cloning), x, a, squared_error(cloning))
    solver(initial_params(cloning), 2 * x, -a, squared_error(cloning))
    again = solver(initial_params(cloning), x, a, squared_error(cloning))
    assert torch.equal(first.states, again.states)
    assert torch.equal(first.actions, again.actions)


def test_too_little_memory_is_an_error() -> None:
    cloning, (x, a) = make_cloning(MLP4, "sgd"), random_synsets()
    with pytest.raises(ObdError, match="--memory"):
        UnrolledMetaGradient(cloning, memory=1000)(
            initial_params(cloning), x, a, squared_error(cloning)
        )


TASK_SIZES = sorted({(task.observation_size, task.action_size) for task in TASKS.values()})


@pytest.mark.parametrize(
    ("sizes", "sampled"),
    [
        (TASK_SIZES[0], False),
        (TASK_SIZES[-1], True),
        pytest.param(TASK_SIZES[0], True, marks=pytest.mark.slow),
        pytest.param(TASK_SIZES[-1], False, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_both_methods_agree_at_full_size(sizes: tuple[int, int], sampled: bool) -> None:
    """100 inner steps at width 256 in float64 agree to 1e-10."""
    observation, action = sizes
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 32, observation, generator=generator, dtype=DOUBLE)
    a = torch.rand(1, 32, action, generator=generator, dtype=DOUBLE) * 1.8 - 0.9
    states = torch.randn(64, observation, generator=generator, dtype=DOUBLE)
    noise = torch.randn(100, 1, 32, action, generator=generator, dtype=DOUBLE)
    cloning = CloningConfig(Architecture("mlp4", 4), get_optimizer("sgd"), 0.1, 100)
    params = cloning.architecture.init([seeded_generator(0)], observation, action, dtype=DOUBLE)

    def outer_loss(p: Params) -> Tensor:
        return cloning.architecture.act(p, states).square().mean((-1, -2))

    swept, general = (
        UnrolledMetaGradient(cloning, use_reverse_sweep=use_reverse_sweep)(
            params, x, a, outer_loss, noise=noise if sampled else None
        )
        for use_reverse_sweep in (True, False)
    )
    assert relative_error(swept.states, general.states) < 1e-10
    assert relative_error(swept.actions, general.actions) < 1e-10


KINK = 1e-4


def test_reverse_sweep_in_float32_is_as_accurate_as_the_general_method() -> None:
    """Compare 100 inner steps in float32 by both methods with float64.

    A rounding error can change the sign of a ReLU unit's input, and the gradient then jumps by
    several percent. This happens by chance and must happen about equally often in both methods.
    Where it happens in neither, the errors are those of rounding and must be of the same size.
    """
    stack, pairs = 32, 16
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(stack, pairs, 11, generator=generator)
    a = torch.rand(stack, pairs, 3, generator=generator) * 1.8 - 0.9
    states = torch.randn(128, 11, generator=generator)
    target = torch.rand(128, 3, generator=generator)
    cloning = CloningConfig(Architecture("mlp4", 4, width=64), get_optimizer("sgd"), 0.1, 100)
    start = cloning.architecture.init([seeded_generator(s) for s in range(stack)], 11, 3)

    def gradient_of(dtype: torch.dtype, use_reverse_sweep: bool) -> Tensor:
        def outer_loss(p: Params) -> Tensor:
            acted = cloning.architecture.act(p, states.to(dtype))
            return (acted - target.to(dtype)).square().mean((-1, -2))

        params = {name: value.to(dtype) for name, value in start.items()}
        gradient = UnrolledMetaGradient(cloning, use_reverse_sweep=use_reverse_sweep)(
            params, x.to(dtype), a.to(dtype), outer_loss
        )
        return torch.cat([gradient.states.flatten(1), gradient.actions.flatten(1)], 1).to(DOUBLE)

    exact = gradient_of(DOUBLE, use_reverse_sweep=True)
    swept, general = (
        (gradient_of(torch.float32, use_reverse_sweep=use_reverse_sweep) - exact).norm(dim=1)
        / exact.norm(dim=1)
        for use_reverse_sweep in (True, False)
    )
    smooth = (swept < KINK) & (general < KINK)
    assert int(smooth.sum()) >= 4
    assert float((swept[smooth].log() - general[smooth].log()).mean().exp()) < 2.0
    jumps, expected = int((swept > KINK).sum()), int((general > KINK).sum())
    assert abs(jumps - expected) <= 3.0 * (2 * stack * 0.25) ** 0.5  # three standard deviations
