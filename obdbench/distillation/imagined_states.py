r"""States that freshly cloned students visit in a dynamics model of the data.

A student that errs leaves the states of the data, and the objective gives it no guidance there.
Students are cloned on the current synset and rolled out in the model from states of the data;
an objective that also looks at the states of these trajectories asks the teacher where students
really go, as DAgger does with an environment (Ross et al., 2011, arXiv 1011.0686). Here no
environment takes part.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from obdbench.distillation.dynamics_model import DynamicsModel

Policy = Callable[[Tensor], Tensor]


@torch.no_grad()
def imagine_states(
    model: DynamicsModel,
    policy: Policy,
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
