r"""A teacher that is linear in the state: ridge regression on the actions of a dataset.

.. math:: \min_{W, b} \sum \lVert W s + b - \operatorname{artanh} a \rVert^2
          + \lambda \lVert W \rVert^2

A loader receives the identifier of a dataset and returns an :class:`obdbench.Teacher`. This one has
no critic, so that it serves ``pbc``; ``obdbench teach DATASET --algorithm fitted-q --policy ridge``
adds one.
"""

from __future__ import annotations

import numpy as np
import torch

import obdbench
from obdbench.teachers.teacher import with_constant_std

RIDGE = 1.0
LARGEST_ACTION = 0.95  # artanh is infinite at 1


def load(dataset_id: str) -> obdbench.Teacher:
    """Fit the teacher of a dataset."""
    dataset = obdbench.load_dataset(dataset_id)
    inputs = np.column_stack([dataset.states, np.ones(len(dataset))])
    targets = np.arctanh(np.clip(dataset.actions, -LARGEST_ACTION, LARGEST_ACTION))
    penalty = RIDGE * np.eye(inputs.shape[1])
    penalty[-1, -1] = 0.0  # not on b
    solution = np.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ targets).T
    parameters = torch.from_numpy(solution.astype(np.float32))
    actor = ((parameters[:, :-1].contiguous(), parameters[:, -1].contiguous()),)
    return obdbench.Teacher(
        id=f"ridge:{dataset_id}",
        actor=with_constant_std(actor),
        critics=(),
        standardizer=dataset.standardizer,
        log_std_offset=0.0,
        card={"algorithm": "ridge regression", "data": dataset.checksum},
    )
