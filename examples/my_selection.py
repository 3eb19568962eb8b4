"""A user-defined selection method: pairs on which the teacher departs from the data."""

import numpy as np

import obdbench


@obdbench.register_selection("disagreement")
class Disagreement(obdbench.SelectionMethod):
    """Transitions drawn in proportion to the squared distance of the two actions."""

    uses_teacher = True

    def select(self, dataset, teacher, pairs, rng):
        gap = np.square(teacher.act(dataset.observations) - dataset.actions).sum(axis=1)
        probabilities = gap / gap.sum(dtype=np.float64)
        return rng.choice(len(dataset), pairs, replace=False, p=probabilities)
