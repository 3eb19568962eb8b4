r"""Networks with a leading axis: the networks of several datasets train as one program.

A *stack* of S networks is one dictionary of tensors, ``w0 … wL`` of shape (S, out, in) and
``b0 … bL`` of shape (S, out). Weights and biases start uniform in
:math:`\pm 1/\sqrt{\mathrm{in}}`, as ``torch.nn.Linear`` draws them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from obdbench.datasets.dataset import Standardizer
from obdbench.policies.networks import Params, stacked_linear
from obdbench.teachers.teacher import Layers


def init_networks(generators: Sequence[torch.Generator], sizes: Sequence[int]) -> Params:
    """One network per generator, with ``sizes`` units per layer from input to output."""
    params: Params = {}
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        bound = 1.0 / math.sqrt(inputs)
        drawn = [torch.rand(outputs, inputs + 1, generator=g) for g in generators]
        uniform = bound * (2.0 * torch.stack(drawn) - 1.0)
        params[f"w{index}"] = uniform[..., :-1].clone().requires_grad_()
        params[f"b{index}"] = uniform[..., -1].clone().requires_grad_()
    return params


def apply_networks(
    params: Params,
    x: Tensor,
    dtype: torch.dtype = torch.float32,
    activation: Callable[[Tensor], Tensor] = torch.relu,
) -> Tensor:
    """Outputs of shape (S, N, out) for inputs of shape (S, N, in).

    Hidden layers multiply in ``dtype``; the output layer always works in ``float32``.
    """
    depth = len(params) // 2
    hidden = params
    if dtype != torch.float32:
        hidden = {name: tensor.to(dtype) for name, tensor in params.items()}
        x = x.to(dtype)
    for index in range(depth - 1):
        x = activation(stacked_linear(hidden, index, x))
    return stacked_linear(params, depth - 1, x.float())


def apply_twin_critics(
    params: Params, states: Tensor, actions: Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Estimates of shape (D, 2, N): each of the D datasets has two critics in the stack."""
    inputs = torch.cat([states, actions], dim=-1).repeat_interleave(2, dim=0)
    return torch.unflatten(apply_networks(params, inputs, dtype).squeeze(-1), 0, (-1, 2))


def copy_networks(params: Params) -> Params:
    """A detached copy, for target networks."""
    return {name: tensor.detach().clone() for name, tensor in params.items()}


def detach_networks(params: Params) -> Params:
    """The same tensors without gradients, for losses of other networks."""
    return {name: tensor.detach() for name, tensor in params.items()}


def network_layers(params: Params, index: int, scale: float = 1.0) -> Layers:
    """One network of a stack as (weight, bias) pairs, its output multiplied by ``scale``."""
    layers = [
        (params[f"w{i}"][index].detach().clone(), params[f"b{i}"][index].detach().clone())
        for i in range(len(params) // 2)
    ]
    weight, bias = layers[-1]
    return (*layers[:-1], (weight * scale, bias * scale))


def convert_inputs(layers: Layers, old: Standardizer, new: Standardizer) -> Layers:
    r"""The same function of raw observations for states of another standardization.

    .. math:: W' = W\,\mathrm{diag}(\sigma_\mathrm{new} / \sigma_\mathrm{old}), \qquad
              b' = b + W\,(\mu_\mathrm{new} - \mu_\mathrm{old}) / \sigma_\mathrm{old}

    in the columns of the states; those of the actions, which follow, are unchanged.
    """
    (weight, bias), *others = layers
    size = len(old.mean)
    scale = np.asarray(old.scale, np.float64)
    shift = torch.from_numpy((np.asarray(new.mean, np.float64) - old.mean) / scale)
    ratio = torch.from_numpy(new.scale / scale)
    states, actions = weight[:, :size].double(), weight[:, size:]
    converted = torch.cat([(states * ratio).float(), actions], dim=1)
    return ((converted, (bias + states @ shift).float()), *others)
