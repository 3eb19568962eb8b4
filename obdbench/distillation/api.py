"""Distillation of one synset by one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from obdbench.datasets.dataset import Dataset
from obdbench.datasets.loading import load_dataset
from obdbench.distillation.loop import Progress, distill_points
from obdbench.distillation.phase_solvers import warn_kernel_mismatch
from obdbench.distillation.settings import resolve_settings
from obdbench.distillation.synset import Synset
from obdbench.objectives.objective import Objective, make_objective
from obdbench.policies.device import check_device, check_seed
from obdbench.progress_bar import progress_bar
from obdbench.teachers.loading import load_teacher
from obdbench.teachers.teacher import Teacher


def distill(
    dataset: Dataset | str,
    teacher: Teacher | str | None = None,
    objective: str | Objective = "av-pbc",
    *,
    preset: str = "fast",
    seed: int = 0,
    snapshot: Path | str | None = None,
    progress: bool = True,
    device: str = "cpu",
    **overrides: Any,
) -> Synset:
    """Distill one synset and return it as of the last evaluation point.

    Args:
        dataset: The data that is distilled, or their identifier.
        teacher: The policy that labels and weights the data, for objectives that use one, or the
            name by which :func:`~obdbench.load_teacher` finds it.
        objective: A registered objective's name or an :class:`~obdbench.Objective`.
        preset: The settings that ``overrides`` are applied to.
        seed: Fixes all random numbers.
        snapshot: A file that the state is saved to and that an interrupted call resumes from.
            It does not record the code of the objective: delete it after changing that code.
        progress: Whether to show a progress bar.
        device: The torch device.
        overrides: Fields of :class:`~obdbench.distillation.settings.DistillSettings`, such as
            ``pairs=64`` or ``steps=100``.
    """
    settings = resolve_settings(preset, overrides)
    check_seed(seed)
    if isinstance(dataset, str):
        dataset = load_dataset(dataset)
    if isinstance(teacher, str):
        teacher = load_teacher(dataset.id, teacher)
    check_device(device)
    if isinstance(objective, str):
        objective = make_objective(objective)
    if objective.distills:
        warn_kernel_mismatch(settings)
    synset: Synset | None = None
    with progress_bar(
        total=settings.steps, unit="step", progress=progress and objective.distills
    ) as bar:

        def update_bar(now: Progress) -> None:
            figures = {"loss": f"{now.loss:.4g}"}
            if now.missed_variance is not None:
                figures["missed"] = f"{now.missed_variance:.0%}"
            bar.set_postfix(figures, refresh=False)
            bar.update(now.step - bar.n)

        for point in distill_points(
            dataset,
            teacher,
            objective,
            settings,
            [seed],
            snapshot=None if snapshot is None else Path(snapshot),
            progress=update_bar,
            device=device,
        ):
            synset = point.synsets[0]
    assert synset is not None
    return synset
