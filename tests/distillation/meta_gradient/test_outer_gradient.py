"""The derivative of the objective in the final parameters: by hand, against autograd."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from obdbench.distillation.meta_gradient.grouped_reverse_sweep import split_stack
from obdbench.distillation.meta_gradient.outer_gradient import (
    MlpOuterGradient,
    OuterLossOnStates,
    outer_gradient,
)
from obdbench.distillation.meta_gradient.solver import MetaGradientSolver
from obdbench.policies.cloning import CloningConfig
from obdbench.policies.networks import Architecture, Params, get_architecture, seeded_generator
from obdbench.policies.optimizers import get_optimizer

OBSERVATIONS, ACTIONS = 11, 3


def student(depth: int = 4, width: int = 32) -> Architecture:
    return Architecture(f"mlp{depth}", depth, width=width)


def trained(architecture: Architecture, stack: int, dtype: torch.dtype = torch.float32) -> Params:
    """Parameters no longer at their start: biases are not zero."""
    params = architecture.init(
        [seeded_generator(s, 1) for s in range(stack)], OBSERVATIONS, ACTIONS, dtype=dtype
    )
    generator = torch.Generator().manual_seed(stack)
    return {
        name: value + 0.05 * torch.randn(value.shape, generator=generator).to(dtype)
        for name, value in params.items()
    }


def weighted(stack: int, rows: int, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(rows)
    target = torch.rand(stack, rows, ACTIONS, generator=generator).to(dtype) * 1.8 - 0.9
    weight = torch.rand(stack, rows, generator=generator).to(dtype)
    return lambda actions: (weight * (actions - target).square().sum(-1)).mean(-1)


def seen(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, OBSERVATIONS, generator=generator).to(dtype)


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
@pytest.mark.parametrize("stack", [1, 3])
def test_one_thread_gives_the_bits_of_autograd(depth: int, stack: int) -> None:
    architecture = student(depth)
    params = trained(architecture, stack)
    outer = OuterLossOnStates(
        architecture.act, seen(stack, 100), weighted(stack, 100, torch.float32)
    )
    by_hand = MlpOuterGradient(architecture, split_stack(stack, 1))
    by_hand(outer, trained(architecture, stack))  # leaves something behind in the buffers
    losses, gradient = by_hand(outer, params)
    expected, wanted = outer_gradient(outer, params)
    assert torch.equal(losses, expected)
    assert gradient.keys() == wanted.keys()
    for name in wanted:
        assert torch.equal(gradient[name], wanted[name]), name


@pytest.mark.parametrize("threads", [2, 3])
def test_groups_of_a_stack_are_put_together_again(threads: int) -> None:
    architecture, stack = student(), 5
    params = trained(architecture, stack, torch.float64)
    states = seen(stack, 40, dtype=torch.float64)
    outer = OuterLossOnStates(architecture.act, states, weighted(stack, 40, torch.float64))
    losses, gradient = MlpOuterGradient(architecture, split_stack(stack, threads))(outer, params)
    expected, wanted = outer_gradient(outer, params)
    torch.testing.assert_close(losses, expected, rtol=1e-13, atol=0)
    for name in wanted:
        torch.testing.assert_close(gradient[name], wanted[name], rtol=1e-11, atol=1e-15)


def test_states_may_be_common_to_the_stack() -> None:
    architecture, states = student(), seen(50)
    params, loss = trained(architecture, 2), weighted(2, 50, torch.float32)
    _, common = MlpOuterGradient(architecture, split_stack(2, 1))(
        OuterLossOnStates(architecture.act, states, loss), params
    )
    _, each = MlpOuterGradient(architecture, split_stack(2, 1))(
        OuterLossOnStates(architecture.act, torch.stack([states, states]), loss), params
    )
    for name in each:
        torch.testing.assert_close(common[name], each[name], rtol=1e-4, atol=1e-7)


def test_another_batch_size_or_type_gets_other_buffers() -> None:
    architecture = student()
    by_hand = MlpOuterGradient(architecture, split_stack(2, 1))
    for rows, dtype in ((64, torch.float32), (32, torch.float32), (32, torch.float64)):
        params = trained(architecture, 2, dtype)
        outer = OuterLossOnStates(
            architecture.act, seen(2, rows, dtype=dtype), weighted(2, rows, dtype)
        )
        _, gradient = by_hand(outer, params)
        _, wanted = outer_gradient(outer, params)
        for name in wanted:
            assert gradient[name].dtype == dtype
            assert torch.equal(gradient[name], wanted[name])


def test_nothing_given_is_changed() -> None:
    architecture = student()
    params, states = trained(architecture, 2), seen(2, 30)
    before = {name: value.clone() for name, value in params.items()}
    outer = OuterLossOnStates(architecture.act, states, weighted(2, 30, torch.float32))
    MlpOuterGradient(architecture, split_stack(2, 1))(outer, params)
    assert torch.equal(states, seen(2, 30))
    for name in before:
        assert torch.equal(params[name], before[name])


@pytest.mark.parametrize("name", ["mlp4", "residual"])
def test_the_solver_answers_the_same_however_the_objective_is_given(name: str) -> None:
    """As an objective on states, which the fast path sees through, or as any function."""
    architecture = get_architecture(name)
    how = CloningConfig(architecture, get_optimizer("sgd"), 0.1, 4)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 20, OBSERVATIONS, generator=generator)
    a = torch.rand(2, 20, ACTIONS, generator=generator) * 1.8 - 0.9
    params = architecture.init([seeded_generator(s, 1) for s in range(2)], OBSERVATIONS, ACTIONS)
    outer = OuterLossOnStates(architecture.act, seen(2, 64), weighted(2, 64, torch.float32))
    found = MetaGradientSolver(how)(params, x, a, outer)
    expected = MetaGradientSolver(how)(params, x, a, lambda learned: outer(learned))
    for got, wanted in (
        (found.loss, expected.loss),
        (found.states, expected.states),
        (found.actions, expected.actions),
    ):
        assert torch.equal(got, wanted)
        assert not got.is_inference()  # the caller may go on with them as he likes
