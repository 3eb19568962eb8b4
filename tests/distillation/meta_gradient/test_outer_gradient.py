"""The gradient of the objective in the final parameters."""

from __future__ import annotations

import torch
from support.gradients import DOUBLE, MLP3, initial_params, make_cloning, random_synsets
from torch import Tensor

from obdbench.distillation.meta_gradient.outer_gradient import outer_gradient
from obdbench.distillation.meta_gradient.unrolled import UnrolledMetaGradient
from obdbench.policies.networks import Params


def bias_norm(params: Params) -> Tensor:
    return params["b0"].square().sum(1)


def test_gradient_in_a_parameter_without_influence_is_zero() -> None:
    params = initial_params(make_cloning(MLP3, "sgd"))
    params["b0"] += torch.arange(12, dtype=DOUBLE)
    losses, gradient = outer_gradient(bias_norm, params)
    assert torch.equal(losses, bias_norm(params))
    assert torch.equal(gradient["b0"], 2 * params["b0"])
    assert gradient.keys() == params.keys()
    for name in gradient.keys() - {"b0"}:
        assert torch.equal(gradient[name], torch.zeros_like(params[name]))
    assert not any(tensor.requires_grad for tensor in (losses, *params.values()))


def test_meta_gradient_can_be_used_in_autograd() -> None:
    cloning = make_cloning(MLP3, "sgd")
    for tensor in UnrolledMetaGradient(cloning)(
        initial_params(cloning), *random_synsets(), bias_norm
    ):
        assert not tensor.is_inference()
