"""Inner optimizers agree with torch's, and are differentiable."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from obdbench.errors import ObdError
from obdbench.policies.optimizers import OPTIMIZERS, get_optimizer

REFERENCES: dict[str, Any] = {
    "sgd": lambda p, lr: torch.optim.SGD(p, lr=lr),
    "sgdm": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9),
    "adam": lambda p, lr: torch.optim.Adam(p, lr=lr),
    "adamw": lambda p, lr: torch.optim.AdamW(p, lr=lr, weight_decay=0.01),
}


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_agrees_with_torch(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    target = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    reference = start.clone().requires_grad_()
    torch_optimizer = REFERENCES[name]([reference], 0.01)
    optimizer = get_optimizer(name)
    params, state = {"p": start}, optimizer.init({"p": start})
    for _ in range(25):
        torch_optimizer.zero_grad()
        (reference - target).square().sum().backward()
        torch_optimizer.step()
        params, state = optimizer.update(params, {"p": 2 * (params["p"] - target)}, state, 0.01)
    assert torch.allclose(params["p"], reference.detach(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_derivative_is_finite_at_a_zero_gradient(name: str) -> None:
    optimizer = get_optimizer(name)
    params = {"p": torch.ones(1, 3, dtype=torch.float64)}
    gradient = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    after, _ = optimizer.update(params, {"p": gradient}, optimizer.init(params), 0.1)
    (slope,) = torch.autograd.grad(after["p"].sum(), gradient)
    assert torch.isfinite(slope).all()


def test_unknown_optimizer() -> None:
    with pytest.raises(ObdError, match="adam"):
        get_optimizer("adm")
