"""The confound of weighted objectives: weights that do not average one scale the outer gradient.

Under SGD that is another learning rate. Adam divides it out, so that published and mean-one weights
take the same way.
"""

import numpy as np
import pytest
from support.toys import make_toy_dataset, make_toy_teacher

from obdbench.distillation.loop import distill_points
from obdbench.distillation.settings import resolve_settings
from obdbench.objectives.objective import make_objective


def moved(objective: str, normalization: str, optimizer: str, kernel_share: float) -> np.ndarray:
    """How far a distillation moved the pairs."""
    dataset = make_toy_dataset()
    settings = resolve_settings(
        "tiny",
        {
            "pairs": 8,
            "steps": 4,
            "outer_optimizer": optimizer,
            "outer_lr": 0.01,
            "kernel_lr": 0.01,
            "kernel_share": kernel_share,
        },
    )
    chosen = make_objective(objective, {"weight_normalization": normalization})
    points = list(distill_points(dataset, make_toy_teacher(dataset), chosen, settings, [0]))
    return points[-1].synsets[0].actions - points[0].synsets[0].actions


@pytest.mark.parametrize("kernel_share", [0.0, 0.5])
@pytest.mark.parametrize("objective", ["av-pbc", "sdw"])
def test_adam_does_not_see_the_scale_and_sgd_does(objective: str, kernel_share: float) -> None:
    ways = {
        optimizer: [
            moved(objective, normalization, optimizer, kernel_share)
            for normalization in ("none", "mean-one")
        ]
        for optimizer in ("adam", "sgd")
    }
    published, mean_one = ways["adam"]
    assert np.abs(published - mean_one).max() < 0.01 * np.abs(published).max()
    published, mean_one = ways["sgd"]
    assert np.abs(published - mean_one).max() > 0.1 * np.abs(published).max()
