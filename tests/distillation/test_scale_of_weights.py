"""Weights whose mean is not one scale the outer gradient of a weighted objective.

Under SGD this changes the effective learning rate. Adam divides the scale out, so published weights
and weights of mean one move the synset in the same way.
"""

import numpy as np
import pytest
from support.gaussian_density import gaussian_log_density
from support.toys import make_toy_dataset, make_toy_teacher

from obdbench.distillation.loop import distill_points
from obdbench.distillation.settings import resolve_settings
from obdbench.objectives.objective import make_objective


def action_changes(
    objective: str, normalization: str, optimizer: str, kernel_share: float
) -> np.ndarray:
    """Distill and return the changes of the synset's actions."""
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
    weighted = make_objective(objective, {"weight_normalization": normalization})
    points = list(distill_points(dataset, make_toy_teacher(dataset), weighted, settings, [0]))
    return points[-1].synsets[0].actions - points[0].synsets[0].actions


@pytest.mark.parametrize("kernel_share", [0.0, 0.5])
@pytest.mark.parametrize("objective", ["av-pbc", "sdw"])
def test_adam_is_invariant_to_the_scale_of_weights_and_sgd_is_not(
    objective: str, kernel_share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "obdbench.objectives.sdw.log_density", lambda d: gaussian_log_density(d.states, d.states)
    )
    changes = {
        optimizer: [
            action_changes(objective, normalization, optimizer, kernel_share)
            for normalization in ("none", "mean-one")
        ]
        for optimizer in ("adam", "sgd")
    }
    published, mean_one = changes["adam"]
    assert np.abs(published - mean_one).max() < 0.02 * np.abs(published).max()
    published, mean_one = changes["sgd"]
    assert np.abs(published - mean_one).max() > 0.1 * np.abs(published).max()
