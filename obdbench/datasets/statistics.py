"""Sizes, returns and moments of a dataset, beside those published for D4RL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from obdbench.datasets.dataset import Dataset
from obdbench.datasets.identifier import DatasetId
from obdbench.datasets.references import Reference, find_reference
from obdbench.tasks.task import get_task, normalized_return


def describe(dataset: Dataset) -> dict[str, Any]:
    """Transitions, complete episodes, their returns, and the moments of states and actions."""
    returns = dataset.episode_returns()
    summary: dict[str, Any] = {"transitions": len(dataset), "episodes": len(returns)}
    if len(returns):
        summary |= {
            "return_mean": round(float(returns.mean()), 2),
            "return_std": round(float(returns.std()), 2),
            "return_min": round(float(returns.min()), 2),
            "return_max": round(float(returns.max()), 2),
            "normalized_return_mean": round(
                float(normalized_return(dataset.task, returns).mean()), 2
            ),
        }
    return summary | {
        "observation_mean": _rounded(dataset.standardizer.mean),
        "observation_std": _rounded(dataset.standardizer.std),
        "action_mean": _rounded(dataset.actions.mean(axis=0, dtype=np.float64)),
        "action_std": _rounded(dataset.actions.std(axis=0, dtype=np.float64)),
    }


def describe_published(name: str) -> dict[str, Any]:
    """What D4RL's file of a name contains, with the keys of :func:`describe`."""
    reference = find_reference(name)
    if reference is None:
        return {}
    mean = normalized_return(get_task(name), reference.return_mean)
    return {
        "transitions": reference.rows,
        "return_mean": reference.return_mean,
        "return_std": reference.return_std,
        "normalized_return_mean": round(float(mean), 2),
        "observation_mean": _rounded(reference.state_mean),
        "observation_std": _rounded(reference.state_std),
    }


def reference_of(dataset: Dataset) -> Reference | None:
    """The published facts about the genuine dataset of the same task and level."""
    return find_reference(f"{DatasetId(dataset.id).short_name}-v2")


def return_difference(dataset: Dataset) -> float | None:
    """Normalized points between a dataset's mean episode return and D4RL's, if both are known."""
    reference, returns = reference_of(dataset), dataset.episode_returns()
    if reference is None or not len(returns):
        return None
    here, published = normalized_return(dataset.task, [returns.mean(), reference.return_mean])
    return float(here - published)


def return_tolerance(dataset: Dataset) -> float:
    """The largest accepted difference from D4RL's mean return, in normalized points."""
    return 10.0 if DatasetId(dataset.id).level == "medium-expert" else 6.0


def format_comparison(dataset: Dataset) -> Iterator[str]:
    """Lines that show a dataset's figures beside D4RL's, where those are published.

    The rows of D4RL's own files are compared with those that ``qlearning_dataset`` keeps.
    """
    parsed = DatasetId(dataset.id)
    published = describe_published(f"{parsed.short_name}-v2")
    reference = reference_of(dataset) if parsed.source == "d4rl" else None
    if reference is not None:
        published["transitions"] = reference.size
    yield f"  {'':<22} {'here':>12} {'D4RL':>12}"
    for key, value in describe(dataset).items():
        label, other = key.replace("_", " "), published.get(key)
        if isinstance(value, list):
            for index, element in enumerate(value):
                genuine = None if other is None else other[index]
                yield _line(f"{label} {index}", element, genuine, decimals=3)
        else:
            yield _line(label, value, other, decimals=0 if isinstance(value, int) else 1)
    if reference is not None:
        yield "  Rows at the time limit are omitted; D4RL's returns include their rewards."


def _line(label: str, value: float, other: float | None, decimals: int) -> str:
    genuine = "-" if other is None else f"{other:,.{decimals}f}"
    return f"  {label:<22} {value:>12,.{decimals}f} {genuine:>12}"


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(float(value), 5) for value in values]
