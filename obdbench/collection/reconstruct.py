"""Stand-ins for D4RL's datasets, for use without access to its server.

``recon/<name>-v2`` is simulated with the published teachers of the same task: from episodes under
many disturbances (:mod:`obdbench.collection.candidates`), a subset is selected that has the
published moments of the genuine observations (:mod:`obdbench.collection.mixture`). Transitions are
real steps of the simulator with the actions that caused them. The card states the agreement that is
reached, and tables mark the dataset as a stand-in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from obdbench.collection.candidates import FIELDS, Candidates
from obdbench.collection.mixture import select
from obdbench.collection.stand_in_cache import RECIPE, SIZE, cache_path
from obdbench.datasets.arrays import read_arrays, require_columns
from obdbench.datasets.dataset import Array, Dataset, Standardizer
from obdbench.datasets.identifier import DatasetId
from obdbench.datasets.references import moments_of
from obdbench.errors import InvalidDataError, ObdError, unknown_name
from obdbench.io import lock, replace_atomically
from obdbench.policies.single_thread import single_thread
from obdbench.registry import D4RL_NAMES
from obdbench.tasks.task import Task, get_task

CANDIDATE_TRANSITIONS = 300_000
SURPLUS = 1.005
CARD = (
    *("within_goal", "mean_error"),
    *(f"spread_ratio_{which}" for which in ("smallest", "median", "largest")),
)


def load(dataset_id: str, *, force: bool = False) -> Dataset:
    """The stand-in of a D4RL dataset, built if it is not in the cache or if ``force`` is set."""
    name = _name(dataset_id)
    path = cache_path(name)
    with lock(path):
        if force or not path.exists():
            write(build(name), path)
    try:
        return read_stand_in(path, name)
    except ObdError as error:
        raise InvalidDataError(
            error.cause, f"Build it again: obdbench data build recon/{name} --force"
        ) from error


def _name(dataset_id: str) -> str:
    name = DatasetId(dataset_id).name
    known = [f"{known}-v2" for known in D4RL_NAMES]
    if name not in known:
        raise unknown_name("stand-in", dataset_id, [f"recon/{dataset}" for dataset in known])
    return name


def build(name: str, *, size: int = SIZE, simulated: int = CANDIDATE_TRANSITIONS) -> Dataset:
    """Simulate and select; calls on the same machine with the same versions give equal data."""
    task, target = get_task(name), moments_of(name)
    candidates = Candidates(name, task, target, seed=RECIPE)
    with single_thread():
        candidates.fill(simulated, size)
    chosen = select(candidates.sums, candidates.lengths, round(SURPLUS * size))
    np.random.default_rng(RECIPE).shuffle(chosen)
    columns = [candidates.episodes[i].columns for i in chosen]
    arrays = {
        field: np.concatenate([episode[field] for episode in columns])[:size] for field in FIELDS
    }
    arrays["timeouts"][-1] = not arrays["terminals"][-1]
    return _dataset(name, arrays, _card(name, task, target, arrays, simulated))


def _card(
    name: str, task: Task, target: Standardizer, arrays: dict[str, Array], simulated: int
) -> dict[str, Any]:
    reached = agreement(arrays["observations"], target)
    return {
        "stand_in_for": f"d4rl/{name}",
        "recipe": f"obdbench reconstruct {RECIPE}, selected from {simulated} transitions",
        "moments_from": "published statistics of the genuine observations",
        **reached,
        "within_goal": within_goal(reached),
        "falls": int(arrays["terminals"].sum()),
        "environment": task.env_id,
        "versions": {package: version(package) for package in ("gymnasium", "mujoco", "torch")},
    }


def agreement(observations: Array, target: Standardizer) -> dict[str, Any]:
    """Errors of the means in genuine standard deviations, and ratios of standard deviations."""
    moments = Standardizer.fit(observations)
    error = np.abs(moments.mean - target.mean) / target.std
    ratio = moments.std / target.std
    return {
        "mean_error": round(float(error.mean()), 4),
        "mean_error_largest": round(float(error.max()), 4),
        "spread_ratio_median": round(float(np.median(ratio)), 4),
        "spread_ratio_smallest": round(float(ratio.min()), 4),
        "spread_ratio_largest": round(float(ratio.max()), 4),
    }


def format_agreement(card: Mapping[str, Any]) -> str:
    """The agreement that a card states, in one line."""
    return (
        f"means off by {card['mean_error']:.3f} standard deviations, ratios of standard "
        f"deviations {card['spread_ratio_smallest']:.2f} to {card['spread_ratio_largest']:.2f} "
        f"(median {card['spread_ratio_median']:.2f})"
    )


def within_goal(reached: dict[str, Any]) -> bool:
    """Whether mean errors average at most 0.12 and standard deviations are near genuine ones."""
    return bool(
        reached["mean_error"] <= 0.12
        and 0.8 <= reached["spread_ratio_median"] <= 1.2
        and reached["spread_ratio_smallest"] > 0.5
    )


def write(dataset: Dataset, path: Path) -> None:
    """Store as NPZ, with the JSON text of the card as an array of bytes."""
    arrays = {field: getattr(dataset, field) for field in FIELDS}
    card = np.frombuffer(json.dumps(dict(dataset.card)).encode(), dtype=np.uint8)
    with replace_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez(file, card=card, **arrays)


def read_stand_in(path: Path, name: str) -> Dataset:
    columns = read_arrays(path, (*FIELDS, "card"))
    require_columns(path, columns, ("card", *FIELDS), same_length=FIELDS)
    try:
        card = json.loads(columns.pop("card").tobytes())
    except (ValueError, RecursionError) as error:
        raise InvalidDataError(
            f"The card in {path.name} cannot be read: {error}.", "Build it again."
        ) from error
    if not isinstance(card, dict) or not all(_is_number(card.get(name)) for name in CARD):
        raise InvalidDataError(f"The card in {path.name} is incomplete.", "Build it again.")
    return _dataset(name, columns, card)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e9


def _dataset(name: str, arrays: Mapping[str, Any], card: Mapping[str, Any]) -> Dataset:
    """The dataset of cached arrays, with its episodes counted in the card."""
    dataset = Dataset(id=f"recon/{name}", task=get_task(name), **arrays)
    counted = {
        "episodes": len(dataset.episode_returns()),
        "interrupted": dataset.interrupted_episodes(),
    }
    return replace(dataset, card={**card, **counted})
