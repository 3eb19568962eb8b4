"""What the algorithms of this package share: batches, a base class, and how actors are stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from obdbench.offline_rl.networks import apply_twin_critics
from obdbench.policies.networks import Params, seeded_generator
from obdbench.policies.torch_settings import has_bfloat16_products
from obdbench.teachers.teacher import Layers

Rate = Annotated[float, Field(gt=0, le=1)]  # a learning rate
RewardScaling = Literal["none", "mean return", "return range"]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Batch:
    """Transitions of D datasets, N of each: every tensor has shape (D, N) or (D, N, size)."""

    states: Tensor
    actions: Tensor
    rewards: Tensor
    next_states: Tensor
    continues: Tensor  # 0 where the task ended the episode, else 1
    returns: Tensor  # discounted return of the data from this transition on
    policy_actions: Tensor  # of the evaluated policy in the next states; else of size 0


@dataclass(frozen=True)
class CommonSettings:
    """Settings that every algorithm has.

    ``reward_bias`` is added to every reward. In a task without early ends it changes no preference
    among policies; action values become positive, as the weights of Av-PBC and SDW require.
    ``bfloat16`` rounds the factors of products in hidden layers; it is the default where the
    processor has instructions for them.
    """

    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    discount: Annotated[float, Field(ge=0, lt=1)] = 0.99
    target_rate: Annotated[float, Field(gt=0, le=1)] = 0.005
    reward_bias: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    width: Annotated[int, Field(ge=1, le=65_536)] = 256
    bfloat16: bool = field(default_factory=has_bfloat16_products)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the factors of products in hidden layers."""
        return torch.bfloat16 if self.bfloat16 else torch.float32


@dataclass(frozen=True)
class Shape:
    """Sizes of the problem that an algorithm is built for."""

    datasets: int
    observation_size: int
    action_size: int

    def generators(self, seed: int, stream: int, networks: int = 1) -> list[torch.Generator]:
        """Generators for the initial weights: ``networks`` of them per dataset."""
        return [
            seeded_generator(seed, stream, dataset, network)
            for dataset in range(self.datasets)
            for network in range(networks)
        ]


class OfflineAlgorithm(ABC):
    """An offline RL algorithm that trains D datasets side by side.

    Subclasses hold their networks in ``self.networks``, with the critics of every dataset in one
    stack ``"critics"`` in the order dataset, critic, and their optimizers in ``self.optimizers``:
    these two mappings are all the state that a resumed run needs. The target of ``NAME`` is called
    ``target_NAME``.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    settings_type: ClassVar[type[CommonSettings]]
    critics: ClassVar[int] = 2  # per dataset
    evaluates_policy: ClassVar[bool] = False  # of a policy that is given, instead of training one
    reward_scaling: ClassVar[RewardScaling] = "mean return"
    log_std_offset: ClassVar[float] = 0.0  # of the actor's outputs
    settings: CommonSettings
    networks: dict[str, Params]
    optimizers: dict[str, torch.optim.Adam]

    @abstractmethod
    def __init__(self, shape: Shape, settings: Any, seed: int, steps: int) -> None:
        """Build the networks of a problem; ``steps`` is the length of the training."""

    @abstractmethod
    def update(self, batch: Batch, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Take gradient step number ``step`` (from 0); returns losses of shape (D,)."""

    @abstractmethod
    def actor_layers(self, dataset: int) -> Layers:
        """The actor of one dataset; its last layer gives means and log standard deviations."""

    def estimate(self, critics: str, states: Tensor, actions: Tensor) -> Tensor:
        """Estimates of shape (D, 2, N) of a stack of twin critics."""
        return apply_twin_critics(self.networks[critics], states, actions, self.settings.dtype)

    @torch.no_grad()
    def update_targets(self, *names: str) -> None:
        r"""Polyak averaging: :math:`\bar\theta \leftarrow (1 - \tau)\bar\theta + \tau\theta`."""
        for name in names:
            targets = list(self.networks[f"target_{name}"].values())
            params = [tensor.detach() for tensor in self.networks[name].values()]
            torch._foreach_lerp_(targets, params, self.settings.target_rate)

    def state(self) -> dict[str, Any]:
        """Everything that training changes."""
        return {
            "networks": {name: dict(params) for name, params in self.networks.items()},
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
        }

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state` returned."""
        for name, params in self.networks.items():
            for key, tensor in params.items():
                tensor.copy_(state["networks"][name][key])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])


def adam(parameters: Sequence[Tensor], learning_rate: float) -> torch.optim.Adam:
    """Adam with its defaults, in the fused implementation."""
    return torch.optim.Adam(parameters, lr=learning_rate, fused=True)


def minimize(optimizer: torch.optim.Adam, loss: Tensor) -> None:
    """One gradient step on a scalar."""
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    optimizer.step()
