"""A stack cut over threads: the same values for every cut, the same bits for the same cut."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from obdbench.distillation.meta_gradient.grouped_reverse_sweep import split_stack
from obdbench.distillation.meta_gradient.solver import MetaGradient, MetaGradientSolver
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
def test_shares_cover_the_stack_in_order(stack: int, threads: int, sizes: list[int]) -> None:
    found = split_stack(stack, threads)
    assert [share.stop - share.start for share in found] == sizes
    covered = [index for share in found for index in range(share.start, share.stop)]
    assert covered == list(range(stack))


def gradient(
    threads: int, stack: int, *, noise: str = "none", dtype: torch.dtype = torch.float64
) -> MetaGradient:
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(stack)
    x = torch.randn(stack, PAIRS, 11, generator=generator).to(dtype)
    a = (torch.rand(stack, PAIRS, 3, generator=generator) * 1.8 - 0.9).to(dtype)
    drawn = torch.randn(2, STEPS, stack, PAIRS, 3, generator=generator).to(dtype)
    how = CloningConfig(Architecture("mlp4", 4, width=32), get_optimizer("sgd"), 0.2, STEPS)
    params = how.architecture.init(
        [seeded_generator(s, 1) for s in range(stack)], 11, 3, dtype=dtype
    )

    def outer(p: Params) -> Tensor:
        return how.architecture.act(p, x).square().mean((-1, -2))

    return MetaGradientSolver(how)(
        params,
        x,
        a,
        outer,
        noise=None if noise == "none" else drawn[0],
        reverse_noise=drawn[1] if noise == "published" else None,
    )


@pytest.mark.parametrize("noise", ["none", "exact", "published"])
@pytest.mark.parametrize(("stack", "threads"), [(2, 2), (5, 2), (3, 3)])
def test_the_cut_changes_no_value(stack: int, threads: int, noise: str) -> None:
    one, many = gradient(1, stack, noise=noise), gradient(threads, stack, noise=noise)
    for found, expected in zip(
        (many.loss, many.states, many.actions), (one.loss, one.states, one.actions), strict=True
    ):
        assert found.shape == expected.shape
        assert float((found - expected).norm() / expected.norm()) < 1e-12


def test_the_same_threads_give_the_same_bits() -> None:
    first, again = (gradient(2, 5, dtype=torch.float32) for _ in range(2))
    assert torch.equal(first.states, again.states)
    assert torch.equal(first.actions, again.actions)
