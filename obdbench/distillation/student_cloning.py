"""Real students of a distillation, cloned on the synset of one seed."""

from __future__ import annotations

import torch
from torch import Tensor

from obdbench.distillation.settings import DistillSettings
from obdbench.policies.cloning import CloningConfig, clone
from obdbench.policies.networks import Params, get_architecture
from obdbench.policies.optimizers import get_optimizer


def clone_students(
    settings: DistillSettings, x: Tensor, a: Tensor, generators: list[torch.Generator]
) -> Params:
    """Clone one student per generator on the synset (x, a), with all inner steps."""
    cloning = CloningConfig(
        get_architecture(settings.architecture),
        get_optimizer(settings.inner_optimizer),
        settings.inner_lr,
        settings.inner_steps,
    )
    stack, shape, dtype, device = len(generators), a.shape, x.dtype, x.device
    params = cloning.architecture.init(
        generators, x.shape[1], a.shape[1], dtype=dtype, device=str(device)
    )

    def draw_noise(_: int) -> Tensor | None:
        if settings.noise == "none":
            return None
        noise = [torch.randn(shape, generator=generator) for generator in generators]
        return torch.stack(noise).to(device, dtype)

    x, a = x.expand(stack, *x.shape), a.expand(stack, *a.shape)
    return clone(cloning, params, x, a, draw_noise)
