"""Which way the solver takes, what it remembers, and the corners of the two ways.

Several of these answer a fault that was planted and went uncaught (``make mutation``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import torch
from support.gradients import (
    ARCHITECTURES,
    DOUBLE,
    STEPS,
    cloning,
    noise_of,
    problem,
    relative,
    simple_outer,
    start,
    unrolled,
)
from torch import Tensor

from obdbench.distillation.meta_gradient.solver import MetaGradient, MetaGradientSolver
from obdbench.errors import ObdError
from obdbench.policies.cloning import CloningConfig
from obdbench.policies.networks import LOG_STD_OFFSET, Architecture, Params, stacked_linear

MLP4 = ARCHITECTURES[2]


@pytest.fixture
def _restore_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def same(found: MetaGradient, expected: tuple[Tensor, Tensor, Tensor]) -> None:
    losses, gx, ga = expected
    assert torch.allclose(found.loss, losses, rtol=1e-12)
    assert relative(found.states, gx) < 1e-11
    assert relative(found.actions, ga) < 1e-11


@dataclass(frozen=True)
class Smooth(Architecture):
    """A student of another class: no ReLU, so that the sweep does not hold for it."""

    def apply(self, params: Params, states: Tensor) -> tuple[Tensor, Tensor]:
        x = states.expand(params["w0"].shape[0], *states.shape[-2:])
        for index in range(self.depth - 1):
            x = torch.tanh(stacked_linear(params, index, x))
        mean, raw = stacked_linear(params, self.depth - 1, x).chunk(2, dim=-1)
        return mean, raw


@pytest.mark.parametrize(
    ("architecture", "optimizer", "fast", "swept"),
    [
        (MLP4, "sgd", True, True),
        (MLP4, "sgd", False, False),
        (MLP4, "sgdm", True, False),
        (ARCHITECTURES[-1], "sgd", True, False),
        (Architecture("mlp1", 1, width=12), "sgd", True, False),
        (Smooth("smooth", 3, width=12), "sgd", True, False),
    ],
    ids=["mlp4", "not asked for", "momentum", "residual", "one layer", "another class"],
)
def test_the_sweep_is_taken_where_it_holds(
    architecture: Architecture, optimizer: str, fast: bool, swept: bool
) -> None:
    how, (x, a) = cloning(architecture, optimizer), problem()
    solver = MetaGradientSolver(how, fast=fast)
    found = solver(start(how), x, a, simple_outer(how))
    assert (solver._sweeps is not None) == swept
    same(found, unrolled(how, start(how), x, a, simple_outer(how), None))


@pytest.mark.parametrize("fast", [True, False])
def test_parameters_that_the_objective_ignores_pull_at_nothing(fast: bool) -> None:
    how, (x, a) = cloning(MLP4, "sgd"), problem()

    def first_layer(params: Params) -> Tensor:
        return params["w0"].square().sum((-1, -2))

    found = MetaGradientSolver(how, fast=fast)(start(how), x, a, first_layer)
    same(found, unrolled(how, start(how), x, a, first_layer, None))


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("fast", [True, False])
def test_an_objective_may_look_at_every_parameter(fast: bool, sampled: bool) -> None:
    """The half of the head that gives the spread stays as it was where nothing is sampled."""
    how, (x, a) = cloning(MLP4, "sgd"), problem()
    noise = noise_of() if sampled else None

    def everything(params: Params) -> Tensor:
        return torch.stack([p.square().flatten(1).sum(1) for p in params.values()]).sum(0)

    found = MetaGradientSolver(how, fast=fast)(start(how), x, a, everything, noise=noise)
    same(found, unrolled(how, start(how), x, a, everything, noise))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("raw", [-21.0, 2.3])
def test_spreads_beyond_their_bounds_are_held_there(raw: float, fast: bool) -> None:
    """One action's log spread lies out of bounds and has no slope there; the others lie within."""
    how, (x, a) = cloning(MLP4, "sgd"), problem()
    params = start(how)
    params[f"b{MLP4.depth - 1}"][:, 3] = raw - LOG_STD_OFFSET
    found = MetaGradientSolver(how, fast=fast)(params, x, a, simple_outer(how), noise=noise_of())
    same(found, unrolled(how, params, x, a, simple_outer(how), noise_of()))


def test_buffers_below_the_root_of_the_steps_are_refused() -> None:
    """With fewer slots than √T, segments alone would take more memory than was allowed."""
    how, (x, a) = cloning(MLP4, "sgd"), problem()
    whole = MetaGradientSolver(how)
    whole(start(how), x, a, simple_outer(how))
    assert whole._sweeps is not None
    slot = whole._sweeps.sweeps[0].slot_bytes
    with pytest.raises(ObdError, match="GiB do not hold"):
        MetaGradientSolver(how, memory=slot * 3 // 2)(start(how), x, a, simple_outer(how))
    MetaGradientSolver(how, memory=slot * 5 // 2)(start(how), x, a, simple_outer(how))


@pytest.mark.usefixtures("_restore_threads")
def test_the_memory_that_is_asked_for_is_enough_for_a_stack_that_is_cut() -> None:
    how, (x, a) = cloning(MLP4, "sgd"), problem(3)
    torch.set_num_threads(2)
    with pytest.raises(ObdError) as refused:
        MetaGradientSolver(how, memory=2**10)(start(how, 3), x, a, simple_outer(how))
    said = re.search(r"at least ([\d.]+) GiB", str(refused.value))
    assert said is not None
    enough = int(float(said[1]) * 2**30)
    MetaGradientSolver(how, memory=enough)(start(how, 3), x, a, simple_outer(how))


def changed(how: CloningConfig, **options: object) -> tuple[MetaGradient, MetaGradient]:
    """A call after one of another kind, and the same call of a fresh solver."""
    (x, a), used = problem(), MetaGradientSolver(how)
    used(start(how), x, a, simple_outer(how))
    found, expected = (
        solver(start(how), x, a, simple_outer(how), **options)
        for solver in (used, MetaGradientSolver(how))
    )
    return found, expected


def test_a_window_asked_for_later_is_heeded() -> None:
    found, expected = changed(cloning(MLP4, "sgd"), window=2)
    assert torch.equal(found.states, expected.states)


def test_noise_asked_for_later_is_heeded() -> None:
    found, expected = changed(cloning(MLP4, "sgd"), noise=noise_of())
    assert torch.equal(found.states, expected.states)


def test_another_shape_makes_other_buffers() -> None:
    """One policy after two would fit into the same buffers by being written twice."""
    how, used = cloning(MLP4, "sgd"), MetaGradientSolver(cloning(MLP4, "sgd"))
    used(start(how), *problem(), simple_outer(how))
    for stack, pairs in ((1, 6), (2, 5)):
        x, a = problem(stack, pairs)
        found = used(start(how, stack), x, a, simple_outer(how))
        expected = MetaGradientSolver(how)(start(how, stack), x, a, simple_outer(how))
        assert found.states.shape == x.shape
        assert torch.equal(found.states, expected.states)


def test_another_precision_makes_other_buffers() -> None:
    how, (x, a) = cloning(MLP4, "sgd"), problem()
    params = {name: value.float() for name, value in start(how).items()}

    def outer(learned: Params) -> Tensor:
        return how.architecture.act(learned, x.to(learned["w0"].dtype)).square().mean((-1, -2))

    used = MetaGradientSolver(how)
    used(start(how), x, a, outer)
    found = used(params, x.float(), a.float(), outer)
    expected = MetaGradientSolver(how)(params, x.float(), a.float(), outer)
    assert found.states.dtype == torch.float32
    assert torch.equal(found.states, expected.states)


@pytest.mark.usefixtures("_restore_threads")
def test_another_number_of_threads_cuts_the_stack_anew() -> None:
    how, (x, a) = cloning(MLP4, "sgd"), problem(3)
    solver = MetaGradientSolver(how)
    torch.set_num_threads(1)
    one = solver(start(how, 3), x, a, simple_outer(how))
    assert solver._sweeps is not None
    assert len(solver._sweeps.shares) == 1
    torch.set_num_threads(2)
    two = solver(start(how, 3), x, a, simple_outer(how))
    assert len(solver._sweeps.shares) == 2
    assert relative(two.states, one.states) < 1e-12


def test_the_learning_rate_and_the_steps_are_the_students() -> None:
    for how in (replace(cloning(MLP4, "sgd"), lr=0.07), cloning(MLP4, "sgd", STEPS + 3)):
        x, a = problem()
        found = MetaGradientSolver(how)(start(how), x, a, simple_outer(how))
        same(found, unrolled(how, start(how), x, a, simple_outer(how), None))
    assert x.dtype == DOUBLE
