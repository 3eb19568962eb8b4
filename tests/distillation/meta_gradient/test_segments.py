"""An inner loop kept in pieces: the same bits as whole, on either path, and again and again."""

from __future__ import annotations

import pytest
import torch
from support.gradients import (
    ARCHITECTURES,
    DOUBLE,
    PAIRS,
    STACK,
    STEPS,
    cloning,
    noise_of,
    problem,
    simple_outer,
    start,
)

from obdbench.distillation.meta_gradient.reverse_sweep import ReverseSweep
from obdbench.distillation.meta_gradient.solver import MetaGradientSolver
from obdbench.errors import ObdError
from obdbench.policies.cloning import CloningConfig


def general_state(how: CloningConfig) -> int:
    """Bytes of the parameters and moments of one inner step, from its tensors."""
    params = start(how)
    return sum(p.numel() * 8 for p in params.values()) * (1 + len(how.optimizer.moments))


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("noise", ["none", "exact", "published"])
@pytest.mark.parametrize("optimizer", ["sgdm", "adam"])
@pytest.mark.parametrize("states", [5, 6, 7])
def test_the_general_path_in_pieces_gives_the_same_bits(
    states: int, optimizer: str, noise: str, window: int | None
) -> None:
    how, (x, a) = cloning(ARCHITECTURES[2], optimizer), problem()
    given = {
        "noise": None if noise == "none" else noise_of(),
        "reverse_noise": noise_of(seed=4) if noise == "published" else None,
    }
    expected = MetaGradientSolver(how)(start(how), x, a, simple_outer(how), window=window, **given)
    pieces = MetaGradientSolver(how, memory=states * general_state(how))
    found = pieces(start(how), x, a, simple_outer(how), window=window, **given)
    assert torch.equal(found.states, expected.states)
    assert torch.equal(found.actions, expected.actions)


@pytest.mark.parametrize("fast", [True, False])
def test_the_general_path_refuses_a_memory_that_is_too_small(fast: bool) -> None:
    """Eight steps take five states at the least: segments of two, three or four."""
    how, (x, a) = cloning(ARCHITECTURES[2], "adam"), problem()
    solver = MetaGradientSolver(how, memory=5 * general_state(how) - 1, fast=fast)
    with pytest.raises(ObdError, match="GiB do not hold the inner loop of 8 steps") as refused:
        solver(start(how), x, a, simple_outer(how))
    assert "\n" not in str(refused.value)
    with pytest.raises(ObdError, match="GiB do not hold the inner loop of 8 steps"):
        solver.required_bytes(STACK, PAIRS, 11, 3, sampled=False, window=None, dtype=DOUBLE)


@pytest.mark.parametrize("noise", ["none", "exact", "published"])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("slots", [3, 4, STEPS])
def test_the_way_back_can_be_gone_twice(slots: int, window: int | None, noise: str) -> None:
    """A recorded way back is compared with a plain one: both go over what one way forth left."""
    how, (x, a) = cloning(ARCHITECTURES[2], "sgd"), problem()

    def made(memory: int) -> ReverseSweep:
        return ReverseSweep(
            how.architecture,
            STACK,
            PAIRS,
            11,
            3,
            how.lr,
            STEPS,
            window=window,
            sampled=noise != "none",
            memory=memory,
            dtype=DOUBLE,
        )

    sweep = made(slots * made(2**30).slot_bytes + 1)
    assert sweep.slots == min(slots, window or STEPS)
    with torch.no_grad():
        learned = sweep.learn(start(how), x, a, None if noise == "none" else noise_of())
        redrawn = noise_of(seed=4) if noise == "published" else None
        first, again, third = (sweep.back(learned, reverse_noise=redrawn) for _ in range(3))
    for one, two, three in zip(first, again, third, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)
