"""Stacks of policies: shapes, initialization, independence."""

from __future__ import annotations

import math

import pytest
import torch

from obdbench.errors import ObdError
from obdbench.policies.networks import (
    Architecture,
    count_parameters,
    get_architecture,
    seeded_generator,
)

NAMES = ["mlp2", "mlp3", "mlp4", "mlp5", "mlp6", "residual"]


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_depth(name: str) -> None:
    architecture = get_architecture(name)
    params = architecture.init([seeded_generator(0), seeded_generator(1)], 11, 3)
    assert len([key for key in params if key.startswith("w")]) == architecture.depth
    assert params["w0"].shape == (2, 256, 11)
    assert params[f"w{architecture.depth - 1}"].shape == (2, 6, 256)
    actions = architecture.act(params, torch.randn(7, 11))
    assert actions.shape == (2, 7, 3)
    assert actions.abs().max() < 1


def test_orthogonal_with_gain_and_zero_bias() -> None:
    params = get_architecture("mlp4").init([seeded_generator(3)], 17, 6)
    for index in range(4):
        w = params[f"w{index}"][0].double()
        small = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
        assert torch.allclose(small, 2 * torch.eye(len(small), dtype=torch.float64), atol=1e-5)
        assert not params[f"b{index}"].any()


def test_a_policy_does_not_depend_on_its_neighbors() -> None:
    architecture = get_architecture("mlp3")
    together = architecture.init([seeded_generator(s) for s in (5, 6, 7)], 11, 3)
    alone = architecture.init([seeded_generator(6)], 11, 3)
    for name, value in alone.items():
        assert torch.equal(together[name][1], value[0])


def test_head_is_the_gaussian_of_the_documentation() -> None:
    architecture = Architecture("narrow", 2, width=8)
    params = architecture.init([seeded_generator(0)], 11, 3)
    x = torch.randn(4, 11)
    hidden = torch.relu(x @ params["w0"][0].T)
    mean, raw = (hidden @ params["w1"][0].T).chunk(2, -1)
    noise = torch.randn(1, 4, 3)
    expected = torch.tanh(mean + (raw - 1).clamp(-20, 2).exp() * noise[0])
    assert torch.allclose(architecture.act(params, x, noise)[0], expected, atol=1e-6)
    assert torch.allclose(architecture.act(params, x)[0], torch.tanh(mean), atol=1e-6)


def test_log_std_is_clamped() -> None:
    architecture = Architecture("narrow", 2, width=8)
    params = architecture.init([seeded_generator(0)], 11, 3)
    params["b1"][:, 3:] = torch.tensor([100.0, -100.0, 0.0])
    _, log_std = architecture.apply(params, torch.zeros(1, 11))
    assert torch.allclose(log_std[0, 0], torch.tensor([2.0, -20.0, -1.0]))


def test_residual_adds_to_its_input() -> None:
    architecture = Architecture("narrow", 3, residual=True, width=8)
    params = architecture.init([seeded_generator(0)], 11, 3)
    params["w1"].zero_()
    x = torch.randn(4, 11)
    mean, _ = architecture.apply(params, x)
    straight = torch.relu(x @ params["w0"][0].T) @ params["w2"][0][:3].T
    assert torch.allclose(mean[0], straight, atol=1e-6)


def test_seeded_streams_differ_and_repeat() -> None:
    draws = [
        torch.rand(4, generator=seeded_generator(*key)) for key in ((0, 1), (1, 0), (0, 1), (0,))
    ]
    assert torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[3])


def test_count_is_the_papers_network() -> None:
    params = get_architecture("mlp4").init([seeded_generator(0)], 11, 3)
    assert count_parameters(params) == 11 * 256 + 256 + 2 * (256 * 256 + 256) + 256 * 6 + 6


def test_unknown_architecture_names_the_nearest() -> None:
    with pytest.raises(ObdError, match="mlp4"):
        get_architecture("mlp44")


def test_gain_is_root_two() -> None:
    w = get_architecture("mlp2").init([seeded_generator(1)], 11, 3)["w0"][0]
    assert math.isclose(torch.linalg.matrix_norm(w, 2).item(), math.sqrt(2), rel_tol=1e-5)
