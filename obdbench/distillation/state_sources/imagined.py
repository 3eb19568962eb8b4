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

This is DAgger (Ross et al., 2011, arXiv 1011.0686) with a learned model in place of the
environment.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.dynamics_model import DynamicsSettings, load_dynamics
from obdbench.distillation.imagined_states import imagine_states
from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.state_sources.smoothed import SmoothedStates
from obdbench.distillation.student_cloning import clone_students
from obdbench.policies.networks import get_architecture, seeded_generator

IMAGINED_STREAM = 22
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
