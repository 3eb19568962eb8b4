"""The hand-derived gradient of the objective in the final parameters, against autograd."""

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
from obdbench.distillation.meta_gradient.unrolled import UnrolledMetaGradient
from obdbench.policies.cloning import CloningConfig
from obdbench.policies.networks import Architecture, Params, get_architecture, seeded_generator
from obdbench.policies.optimizers import get_optimizer

OBSERVATION_SIZE, ACTION_SIZE = 11, 3


def mlp(depth: int = 4, width: int = 32) -> Architecture:
    return Architecture(f"mlp{depth}", depth, width=width)


def random_params(
    architecture: Architecture, stack: int, dtype: torch.dtype = torch.float32
) -> Params:
    """Return parameters with nonzero biases, unlike untrained ones."""
    params = architecture.init(
        [seeded_generator(s, 1) for s in range(stack)], OBSERVATION_SIZE, ACTION_SIZE, dtype=dtype
    )
    generator = torch.Generator().manual_seed(stack)
    return {
        name: value + 0.05 * torch.randn(value.shape, generator=generator).to(dtype)
        for name, value in params.items()
    }


def weighted_error(stack: int, rows: int, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(rows)
    target = torch.rand(stack, rows, ACTION_SIZE, generator=generator).to(dtype) * 1.8 - 0.9
    weight = torch.rand(stack, rows, generator=generator).to(dtype)
    return lambda actions: (weight * (actions - target).square().sum(-1)).mean(-1)


def random_states(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, OBSERVATION_SIZE, generator=generator).to(dtype)


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
@pytest.mark.parametrize("stack", [1, 3])
def test_one_group_gives_the_bits_of_autograd(depth: int, stack: int) -> None:
    architecture = mlp(depth)
    params = random_params(architecture, stack)
    outer_loss = OuterLossOnStates(
        architecture.act, random_states(stack, 100), weighted_error(stack, 100, torch.float32)
    )
    mlp_gradient = MlpOuterGradient(architecture, split_stack(stack, 1))
    mlp_gradient(outer_loss, random_params(architecture, stack))  # fills the buffers
    losses, gradient = mlp_gradient(outer_loss, params)
    expected, expected_gradient = outer_gradient(outer_loss, params)
    assert torch.equal(losses, expected)
    assert gradient.keys() == expected_gradient.keys()
    for name in expected_gradient:
        assert torch.equal(gradient[name], expected_gradient[name]), name


@pytest.mark.parametrize("threads", [2, 3])
def test_groups_of_a_stack_are_concatenated(threads: int) -> None:
    architecture, stack = mlp(), 5
    params = random_params(architecture, stack, torch.float64)
    states = random_states(stack, 40, dtype=torch.float64)
    outer_loss = OuterLossOnStates(
        architecture.act, states, weighted_error(stack, 40, torch.float64)
    )
    losses, gradient = MlpOuterGradient(architecture, split_stack(stack, threads))(
        outer_loss, params
    )
    expected, expected_gradient = outer_gradient(outer_loss, params)
    torch.testing.assert_close(losses, expected, rtol=1e-13, atol=0)
    for name in expected_gradient:
        torch.testing.assert_close(gradient[name], expected_gradient[name], rtol=1e-11, atol=1e-15)


def test_states_may_be_shared_by_the_stack() -> None:
    architecture, states = mlp(), random_states(50)
    params, loss = random_params(architecture, 2), weighted_error(2, 50, torch.float32)
    _, shared = MlpOuterGradient(architecture, split_stack(2, 1))(
        OuterLossOnStates(architecture.act, states, loss), params
    )
    _, each = MlpOuterGradient(architecture, split_stack(2, 1))(
        OuterLossOnStates(architecture.act, torch.stack([states, states]), loss), params
    )
    for name in each:
        torch.testing.assert_close(shared[name], each[name], rtol=1e-4, atol=1e-7)


def test_other_batch_size_or_dtype_gets_other_buffers() -> None:
    architecture = mlp()
    mlp_gradient = MlpOuterGradient(architecture, split_stack(2, 1))
    for rows, dtype in ((64, torch.float32), (32, torch.float32), (32, torch.float64)):
        params = random_params(architecture, 2, dtype)
        outer_loss = OuterLossOnStates(
            architecture.act, random_states(2, rows, dtype=dtype), weighted_error(2, rows, dtype)
        )
        _, gradient = mlp_gradient(outer_loss, params)
        _, expected_gradient = outer_gradient(outer_loss, params)
        for name in expected_gradient:
            assert gradient[name].dtype == dtype
            assert torch.equal(gradient[name], expected_gradient[name])


def test_inputs_are_not_modified() -> None:
    architecture = mlp()
    params, states = random_params(architecture, 2), random_states(2, 30)
    before = {name: value.clone() for name, value in params.items()}
    outer_loss = OuterLossOnStates(architecture.act, states, weighted_error(2, 30, torch.float32))
    MlpOuterGradient(architecture, split_stack(2, 1))(outer_loss, params)
    assert torch.equal(states, random_states(2, 30))
    for name in before:
        assert torch.equal(params[name], before[name])


@pytest.mark.parametrize("name", ["mlp4", "residual"])
def test_outer_loss_on_states_equals_an_arbitrary_outer_loss(name: str) -> None:
    """The reverse sweep treats the former with hand-derived gradients, the latter by autograd."""
    architecture = get_architecture(name)
    cloning = CloningConfig(architecture, get_optimizer("sgd"), 0.1, 4)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 20, OBSERVATION_SIZE, generator=generator)
    a = torch.rand(2, 20, ACTION_SIZE, generator=generator) * 1.8 - 0.9
    params = architecture.init(
        [seeded_generator(s, 1) for s in range(2)], OBSERVATION_SIZE, ACTION_SIZE
    )
    outer_loss = OuterLossOnStates(
        architecture.act, random_states(2, 64), weighted_error(2, 64, torch.float32)
    )
    actual = UnrolledMetaGradient(cloning)(params, x, a, outer_loss)
    expected = UnrolledMetaGradient(cloning)(
        params, x, a, lambda final_params: outer_loss(final_params)
    )
    for tensor, expected_tensor in (
        (actual.loss, expected.loss),
        (actual.states, expected.states),
        (actual.actions, expected.actions),
    ):
        assert torch.equal(tensor, expected_tensor)
        assert not tensor.is_inference()  # the caller may use it in autograd
