r"""Smoothed states, and states that freshly cloned students visit in a dynamics model.

From outer step ``imagined_start`` on, every ``imagined_interval`` steps, ``imagined_students``
students are cloned on the current synset with the exact number of inner steps. They act in the
dynamics model of the data (:mod:`obdbench.distillation.dynamics_model`) from ``imagined_starts``
states of the data for up to ``imagined_horizon`` steps. At most ``imagined_states`` of the visited
states, drawn uniformly, make up a round, and the last ``imagined_rounds`` rounds are kept. With the
share :math:`\lambda` = ``imagined_share``, smoothed states :math:`D` and kept rounds :math:`M`, the
objective is

.. math:: (1 - \lambda)\, \mathbb{E}_{s \sim D}\, \ell(s) + \lambda\, \mathbb{E}_{s \sim M}\,
          \ell(s).

A student that errs leaves the states of the data, and the objective gives it no guidance there.
With the visited states it asks the teacher where students really go. This is DAgger (Ross et al.,
2011, arXiv 1011.0686) with a learned model in place of the environment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.dynamics_model import DynamicsModel, DynamicsSettings, load_dynamics
from obdbench.distillation.random_streams import IMAGINED_STREAM
from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.state_sources.smoothed import SmoothedStates
from obdbench.distillation.student_cloning import clone_students
from obdbench.policies.networks import get_architecture, seeded_generator

STARTS, NOISE, SUBSET, STUDENTS = range(4)


class ImaginedStates(SmoothedStates):
    """Smoothed states and states that students visit in a dynamics model of the data."""

    name: ClassVar[str] = "imagined"
    adds_states: ClassVar[bool] = True
    uses_next_observations: ClassVar[bool] = True
    dynamics_settings: ClassVar[DynamicsSettings] = DynamicsSettings()

    def __init__(self, dataset: Dataset, settings: DistillSettings) -> None:
        super().__init__(dataset, settings)
        self.added_share, self.kept_rounds = settings.imagined_share, settings.imagined_rounds
        self.model = load_dynamics(dataset, self.dynamics_settings)

    def is_due(self, step: int) -> bool:
        """Whether outer step ``step`` adds a round of states."""
        elapsed = step - self.settings.imagined_start
        return elapsed >= 0 and elapsed % self.settings.imagined_interval == 0

    def new_states(self, states: Tensor, actions: Tensor, seed: int, step: int) -> Tensor:
        """Clone students on the synset and return states of their trajectories in the model."""
        settings = self.settings

        def generator(*purpose: int) -> torch.Generator:
            return seeded_generator(seed, IMAGINED_STREAM, step, *purpose)

        generators = [generator(STUDENTS, i) for i in range(settings.imagined_students)]
        params = clone_students(settings, states, actions, generators)
        params = {name: tensor.cpu().float() for name, tensor in params.items()}
        architecture = get_architecture(settings.architecture)
        starts_generator, noise_generator = generator(STARTS), generator(NOISE)
        data = torch.from_numpy(self.dataset.states)
        rounds = []
        for index in range(settings.imagined_students):
            student = {name: tensor[index : index + 1] for name, tensor in params.items()}
            rows = torch.randperm(len(data), generator=starts_generator)[: settings.imagined_starts]
            rounds.append(
                imagine_states(
                    self.model,
                    lambda s, student=student: architecture.act(student, s),  # type: ignore[misc]
                    data[rows],
                    settings.imagined_horizon,
                    noise=settings.imagined_noise,
                    generator=noise_generator,
                )
            )
        visited = torch.cat(rounds)
        subset = torch.randperm(len(visited), generator=generator(SUBSET))
        return visited[subset[: settings.imagined_states]]

    def card(self) -> dict[str, Any]:
        """Return the settings of the dynamics model and its error on held-out transitions."""
        return {
            "dynamics_model": {
                **asdict(self.dynamics_settings),
                "held_out_error": self.model.held_out_error,
            }
        }


@torch.no_grad()
def imagine_states(
    model: DynamicsModel,
    policy: Callable[[Tensor], Tensor],
    starts: Tensor,
    horizon: int,
    *,
    noise: float = 0.0,
    generator: torch.Generator,
) -> Tensor:
    """All states of the trajectories of one student, standardized, in one table.

    ``policy`` maps states of shape (1, N, observation) to actions of the same leading shape.
    ``starts`` of shape (N, observation) are spread evenly over the members of the ensemble. A
    trajectory ends when it leaves the range of the data or after ``horizon`` steps; its last state
    inside the range is kept. ``noise`` is added to the states that are returned, in units of the
    data's standard deviation.
    """
    usable = len(starts) // model.members * model.members
    states = starts[:usable].reshape(model.members, -1, starts.shape[1])
    alive = torch.ones(states.shape[:2], dtype=torch.bool)
    visited = [states[alive]]
    for _ in range(horizon):
        flat = states.flatten(0, 1).unsqueeze(0)
        actions = torch.unflatten(policy(flat)[0], 0, states.shape[:2])
        states = model.step(states, actions)
        alive = alive & model.inside(states)
        if not alive.any():
            break
        visited.append(states[alive])
        states = torch.where(alive.unsqueeze(-1), states, torch.zeros(()))
    table = torch.cat(visited)
    if noise:
        table = table + noise * torch.randn(table.shape, generator=generator)
    return table
