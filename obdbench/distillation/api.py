"""The one-call form of distillation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.loop import Progress, distill_points
from obdbench.distillation.settings import resolve_settings
from obdbench.distillation.synset import Synset
from obdbench.objectives.objective import Objective, make_objective
from obdbench.teachers.teacher import Teacher


def distill(
    dataset: Dataset,
    teacher: Teacher | None = None,
    objective: str | Objective = "av-pbc",
    *,
    preset: str = "fast",
    seed: int = 0,
    snapshot: Path | str | None = None,
    progress: bool = True,
    device: str = "cpu",
    **overrides: Any,
) -> Synset:
    """Distil one synset and return it as it stands at the last evaluation point.

    ``overrides`` are fields of :class:`~obdbench.distillation.settings.DistillSettings`, such as
    ``pairs=64`` or ``steps=100``. With ``snapshot`` an interrupted call goes on where it stopped.
    """
    from tqdm import tqdm

    settings = resolve_settings(preset, overrides)
    chosen = make_objective(objective) if isinstance(objective, str) else objective
    synset: Synset | None = None
    with tqdm(total=settings.steps, unit="step", disable=not progress or not chosen.distils) as bar:

        def show(now: Progress) -> None:
            bar.set_postfix(loss=f"{now.loss:.4g}", refresh=False)
            bar.update(now.step - bar.n)

        for point in distill_points(
            dataset,
            teacher,
            chosen,
            settings,
            [seed],
            snapshot=None if snapshot is None else Path(snapshot),
            progress=show,
            device=device,
        ):
            synset = point.synsets[0]
    assert synset is not None
    return synset
