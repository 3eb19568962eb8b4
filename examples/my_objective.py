"""An objective of one's own: imitate the teacher only where it clearly beats the data."""

import torch

import obdbench


@obdbench.register_objective("my-objective")
class Advantage(obdbench.Objective):
    """PBC on states whose recorded action the teacher values less than its own."""

    def prepare(self, dataset, teacher, rng):
        known = teacher.columns(dataset.observations)
        gain = known["teacher_q"] - teacher.value(dataset.observations, dataset.actions)
        weight = torch.from_numpy((gain > 0).astype("float32"))
        return {"target": torch.from_numpy(known["teacher_actions"]), "weight": weight}

    def loss(self, actions, batch):
        return (batch.weight * (actions - batch.target).square().mean(-1)).mean(-1)
