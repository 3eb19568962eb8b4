"""The reverse sweep with bfloat16 factors: the same cloning, and a gradient near float32's."""

from __future__ import annotations

import pytest
import torch
from support.gradients import (
    MLP3,
    MLP4,
    PAIRS,
    STACK,
    STEPS,
    initial_params,
    make_cloning,
    random_noise,
    random_synsets,
    relative_error,
)
from torch import Tensor

from obdbench.distillation.meta_gradient import unrolled
from obdbench.distillation.meta_gradient.bfloat16_reverse_sweep import Bfloat16ReverseSweep
from obdbench.distillation.meta_gradient.reverse_sweep import ReverseSweep
from obdbench.distillation.meta_gradient.unrolled import UnrolledMetaGradient
from obdbench.policies.networks import Architecture, Params

SINGLE = torch.float32
NOISE = ("none", "exact", "published")


def single(values: Params) -> Params:
    return {name: value.to(SINGLE) for name, value in values.items()}


class Sweep:
    """A forward and a reverse sweep of one type on the toy problem, in single precision."""

    def __init__(
        self,
        sweep_type: type[ReverseSweep],
        architecture: Architecture = MLP4,
        noise: str = "none",
        window: int | None = None,
        kept_steps: int | None = None,
    ) -> None:
        cloning = make_cloning(architecture, "sgd")
        x, a = (value.to(SINGLE) for value in random_synsets())
        shape = (cloning.architecture, STACK, PAIRS, 11, 3, cloning.lr, STEPS, window)
        self.sweep = sweep_type(*shape, sampled=noise != "none")
        if kept_steps is not None:
            memory = kept_steps * self.sweep.record_bytes + 1
            self.sweep = sweep_type(*shape, sampled=noise != "none", memory=memory)
        noises = [random_noise(seed=seed).to(SINGLE) for seed in (3, 4)]
        with torch.no_grad():
            self.final = self.sweep.run_forward(
                single(initial_params(cloning)), x, a, None if noise == "none" else noises[0]
            )
            self.states, self.actions = self.sweep.run_backward(
                self.final, reverse_noise=noises[1] if noise == "published" else None
            )


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("architecture", [MLP3, MLP4, Architecture("mlp2", 2, width=12)])
def test_cloning_is_the_same_and_the_gradient_is_near(
    architecture: Architecture, noise: str, window: int | None
) -> None:
    expected = Sweep(ReverseSweep, architecture, noise, window)
    actual = Sweep(Bfloat16ReverseSweep, architecture, noise, window)
    for name, value in expected.final.items():
        assert torch.equal(actual.final[name], value)
    for rounded, exact in (
        (actual.states, expected.states),
        (actual.actions, expected.actions),
    ):
        assert relative_error(rounded, exact) < 0.05


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("noise", NOISE)
def test_segments_give_the_same_bits(noise: str, window: int | None) -> None:
    whole = Sweep(Bfloat16ReverseSweep, noise=noise, window=window)
    segmented = Sweep(Bfloat16ReverseSweep, noise=noise, window=window, kept_steps=3)
    assert segmented.sweep.kept_steps == 3
    assert torch.equal(segmented.states, whole.states)
    assert torch.equal(segmented.actions, whole.actions)


def test_activations_and_adjoints_take_half_the_memory() -> None:
    full, half = (Sweep(kind).sweep for kind in (ReverseSweep, Bfloat16ReverseSweep))
    hidden_values = 2 * (MLP4.depth - 1) * MLP4.width * PAIRS * STACK
    assert full.record_bytes - half.record_bytes == 2 * hidden_values


@pytest.mark.parametrize(
    ("precision", "has_products", "dtype", "expected"),
    [
        ("bfloat16", True, torch.float32, Bfloat16ReverseSweep),
        ("bfloat16", False, torch.float32, ReverseSweep),
        ("bfloat16", True, torch.float64, ReverseSweep),
        ("tf32", True, torch.float32, ReverseSweep),
        ("float32", True, torch.float32, ReverseSweep),
    ],
)
def test_the_precision_and_the_processor_select_the_sweep(
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    has_products: bool,
    dtype: torch.dtype,
    expected: type[ReverseSweep],
) -> None:
    monkeypatch.setattr(unrolled, "has_bfloat16_products", lambda: has_products)
    cloning = make_cloning(MLP4, "sgd")
    solver = UnrolledMetaGradient(cloning, precision=precision)
    x, a = (value.to(dtype) for value in random_synsets())
    params = {name: value.to(dtype) for name, value in initial_params(cloning).items()}

    def outer_loss(learned: Params) -> Tensor:
        return cloning.architecture.act(learned, x).square().mean((-1, -2))

    gradient = solver(params, x, a, outer_loss)
    assert solver.reverse_sweep is not None
    assert type(solver.reverse_sweep.sweeps[0]) is expected
    assert gradient.states.dtype == dtype
