"""A user-defined objective: imitate the teacher only where it improves on the data."""

import torch

import obdbench


@obdbench.register_objective("my-objective")
class Advantage(obdbench.Objective):
    """PBC on states where the teacher's action has a higher value than the recorded action."""

    def prepare(self, dataset, teacher, rng):
        columns = teacher.columns(dataset.observations)
        gain = columns["teacher_q"] - teacher.value(dataset.observations, dataset.actions)
        weight = torch.from_numpy((gain > 0).astype("float32"))
        return {"target": torch.from_numpy(columns["teacher_actions"]), "weight": weight}

    def loss(self, actions, batch):
        return (batch.weight * (actions - batch.target).square().mean(-1)).mean(-1)
