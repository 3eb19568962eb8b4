"""Inner loops that do not fit into memory as a whole: the same bits in segments."""

from __future__ import annotations

import pytest
import torch
from support.gradients import (
    DOUBLE,
    MLP4,
    PAIRS,
    STACK,
    STEPS,
    initial_params,
    make_cloning,
    random_noise,
    random_synsets,
    squared_error,
)

from obdbench.distillation.meta_gradient import unrolled
from obdbench.distillation.meta_gradient.reverse_sweep import ReverseSweep
from obdbench.distillation.meta_gradient.unrolled import UnrolledMetaGradient
from obdbench.errors import ObdError
from obdbench.policies.cloning import CloningConfig


def state_bytes(cloning: CloningConfig) -> int:
    """Return the size of the parameters and moments of one inner step, from its tensors."""
    params = initial_params(cloning)
    return sum(p.numel() * 8 for p in params.values()) * (1 + len(cloning.optimizer.moments))


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("noise", ["none", "exact", "published"])
@pytest.mark.parametrize("optimizer", ["sgdm", "adam"])
@pytest.mark.parametrize("states", [5, 6, 7])
def test_general_method_in_segments_gives_the_same_bits(
    states: int, optimizer: str, noise: str, window: int | None
) -> None:
    cloning, (x, a) = make_cloning(MLP4, optimizer), random_synsets()
    options = {
        "noise": None if noise == "none" else random_noise(),
        "reverse_noise": random_noise(seed=4) if noise == "published" else None,
    }
    expected = UnrolledMetaGradient(cloning)(
        initial_params(cloning), x, a, squared_error(cloning), window=window, **options
    )
    segmented = UnrolledMetaGradient(cloning, memory=states * state_bytes(cloning))
    actual = segmented(
        initial_params(cloning), x, a, squared_error(cloning), window=window, **options
    )
    assert torch.equal(actual.states, expected.states)
    assert torch.equal(actual.actions, expected.actions)


@pytest.mark.parametrize("use_reverse_sweep", [True, False])
def test_general_method_refuses_a_memory_that_is_too_small(use_reverse_sweep: bool) -> None:
    """Eight steps need at least five states, with segments of two, three or four."""
    cloning, (x, a) = make_cloning(MLP4, "adam"), random_synsets()
    solver = UnrolledMetaGradient(
        cloning, memory=5 * state_bytes(cloning) - 1, use_reverse_sweep=use_reverse_sweep
    )
    with pytest.raises(ObdError, match=r"GiB.* 8 steps") as caught:
        solver(initial_params(cloning), x, a, squared_error(cloning))
    assert "\n" not in str(caught.value)
    with pytest.raises(ObdError, match=r"GiB.* 8 steps"):
        solver.required_bytes(STACK, PAIRS, 11, 3, sampled=False, window=None, dtype=DOUBLE)


@pytest.mark.parametrize("noise", ["none", "exact", "published"])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("kept_steps", [3, 4, STEPS])
def test_reverse_sweep_may_run_again_after_one_forward_sweep(
    kept_steps: int, window: int | None, noise: str
) -> None:
    """A replayed backward graph is compared with a plain call on the same forward buffers."""
    cloning, (x, a) = make_cloning(MLP4, "sgd"), random_synsets()

    def make_sweep(memory: int) -> ReverseSweep:
        return ReverseSweep(
            cloning.architecture,
            STACK,
            PAIRS,
            11,
            3,
            cloning.lr,
            STEPS,
            window=window,
            sampled=noise != "none",
            memory=memory,
            dtype=DOUBLE,
        )

    sweep = make_sweep(kept_steps * make_sweep(2**30).record_bytes + 1)
    assert sweep.kept_steps == min(kept_steps, window or STEPS)
    with torch.no_grad():
        final_params = sweep.run_forward(
            initial_params(cloning), x, a, None if noise == "none" else random_noise()
        )
        reverse_noise = random_noise(seed=4) if noise == "published" else None
        first, second, third = (
            sweep.run_backward(final_params, reverse_noise=reverse_noise) for _ in range(3)
        )
    for one, two, three in zip(first, second, third, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


def test_rounded_records_take_less_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unrolled, "has_bfloat16_products", lambda: True)
    cloning = make_cloning(MLP4, "sgd")
    exact, rounded = (
        UnrolledMetaGradient(cloning, precision=precision).required_bytes(
            STACK, 256, 11, 3, sampled=False, window=None, dtype=torch.float32
        )
        for precision in ("float32", "bfloat16")
    )
    assert rounded < exact
