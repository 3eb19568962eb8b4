"""A stack grouped by threads: the same values for all groupings, the same bits for one."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from obdbench.distillation.meta_gradient.general import MetaGradient
from obdbench.distillation.meta_gradient.grouped_reverse_sweep import (
    GroupedReverseSweep,
    split_stack,
)
from obdbench.distillation.meta_gradient.unrolled import UnrolledMetaGradient
from obdbench.policies.cloning import CloningConfig
from obdbench.policies.networks import Architecture, Params, seeded_generator
from obdbench.policies.optimizers import get_optimizer

PAIRS, STEPS = 40, 12


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("stack", "threads", "sizes"),
    [(1, 1, [1]), (5, 1, [5]), (1, 2, [1]), (2, 2, [2]), (5, 2, [2, 2, 1]), (3, 4, [3])],
)
def test_groups_cover_the_stack_in_order(stack: int, threads: int, sizes: list[int]) -> None:
    actual = split_stack(stack, threads)
    assert [group.stop - group.start for group in actual] == sizes
    indices = [index for group in actual for index in range(group.start, group.stop)]
    assert indices == list(range(stack))


def meta_gradient(
    threads: int, stack: int, *, noise: str = "none", dtype: torch.dtype = torch.float64
) -> MetaGradient:
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(stack)
    x = torch.randn(stack, PAIRS, 11, generator=generator).to(dtype)
    a = (torch.rand(stack, PAIRS, 3, generator=generator) * 1.8 - 0.9).to(dtype)
    noises = torch.randn(2, STEPS, stack, PAIRS, 3, generator=generator).to(dtype)
    cloning = CloningConfig(Architecture("mlp4", 4, width=32), get_optimizer("sgd"), 0.2, STEPS)
    params = cloning.architecture.init(
        [seeded_generator(s, 1) for s in range(stack)], 11, 3, dtype=dtype
    )

    def outer_loss(p: Params) -> Tensor:
        return cloning.architecture.act(p, x).square().mean((-1, -2))

    return UnrolledMetaGradient(cloning)(
        params,
        x,
        a,
        outer_loss,
        noise=None if noise == "none" else noises[0],
        reverse_noise=noises[1] if noise == "published" else None,
    )


@pytest.mark.parametrize("noise", ["none", "exact", "published"])
@pytest.mark.parametrize(("stack", "threads"), [(2, 2), (5, 2), (3, 3)])
def test_grouping_changes_no_value(stack: int, threads: int, noise: str) -> None:
    ungrouped, grouped = (
        meta_gradient(1, stack, noise=noise),
        meta_gradient(threads, stack, noise=noise),
    )
    for actual, expected in zip(
        (grouped.loss, grouped.states, grouped.actions),
        (ungrouped.loss, ungrouped.states, ungrouped.actions),
        strict=True,
    ):
        assert actual.shape == expected.shape
        assert float((actual - expected).norm() / expected.norm()) < 1e-12


def test_same_number_of_threads_gives_the_same_bits() -> None:
    first, again = (meta_gradient(2, 5, dtype=torch.float32) for _ in range(2))
    assert torch.equal(first.states, again.states)
    assert torch.equal(first.actions, again.actions)


def test_the_trajectory_is_freed_with_its_solver() -> None:
    """A distillation leaves no reference cycles, whose buffers would stay until a collection."""
    gc.collect()
    gc.disable()
    try:
        meta_gradient(1, 2)
        assert not [o for o in gc.get_objects() if type(o) is GroupedReverseSweep]
    finally:
        gc.enable()
