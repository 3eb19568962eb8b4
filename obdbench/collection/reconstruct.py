"""Stand-ins for D4RL's datasets, for when its server is out of reach.

``recon/<name>-v2`` is simulated anew from the published teachers of the same task: of a pool of
episodes under many disturbances (:mod:`obdbench.collection.pool`) those are taken that together have
the published moments of the genuine observations (:mod:`obdbench.collection.mixture`). Transitions
are real steps of the simulator with the actions that caused them. What was reached stands in the
card. It remains a stand-in, and tables say so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from obdbench.collection.mixture import select
from obdbench.collection.pool import FIELDS, Pool
from obdbench.datasets.arrays import read_arrays, require_columns
from obdbench.datasets.dataset import Array, Dataset, Standardizer
from obdbench.datasets.download import cache_root
from obdbench.datasets.identifier import DatasetId
from obdbench.datasets.references import moments_of
from obdbench.errors import InvalidDataError, ObdError, unknown_name
from obdbench.io import lock, replace_atomically
from obdbench.policies.single_thread import single_thread
from obdbench.registry import D4RL_NAMES
from obdbench.tasks.task import Task, get_task

RECIPE = 6
SIZE = 100_000
POOL = 300_000
SURPLUS = 1.005
CARD = (
    *("within_goal", "mean_error"),
    *(f"spread_ratio_{which}" for which in ("smallest", "median", "largest")),
)


def load(dataset_id: str, *, force: bool = False) -> Dataset:
    """The stand-in of a D4RL dataset, built now if the cache does not hold it, or by ``force``."""
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


def cache_path(name: str) -> Path:
    """Where the stand-in of a name is kept; the recipe's version is part of the key."""
    return cache_root() / "recon" / f"{name}-{SIZE}-r{RECIPE}.npz"


def _name(dataset_id: str) -> str:
    name = DatasetId(dataset_id).name
    known = [f"{known}-v2" for known in D4RL_NAMES]
    if name not in known:
        raise unknown_name("stand-in", dataset_id, [f"recon/{one}" for one in known])
    return name


def build(name: str, *, size: int = SIZE, pool: int = POOL) -> Dataset:
    """Simulate and select; the same on every call on the same machine and versions."""
    task, wanted = get_task(name), moments_of(name)
    simulated = Pool(name, task, wanted, seed=RECIPE)
    with single_thread():
        simulated.fill(pool, size)
    chosen = select(simulated.sums, simulated.lengths, round(SURPLUS * size))
    np.random.default_rng(RECIPE).shuffle(chosen)
    taken = [simulated.episodes[i].columns for i in chosen]
    arrays = {field: np.concatenate([each[field] for each in taken])[:size] for field in FIELDS}
    arrays["timeouts"][-1] = not arrays["terminals"][-1]
    return _dataset(name, arrays, _card(name, task, wanted, arrays, pool))


def _card(
    name: str, task: Task, wanted: Standardizer, arrays: dict[str, Array], pool: int
) -> dict[str, Any]:
    reached = agreement(arrays["observations"], wanted)
    return {
        "stand_in_for": f"d4rl/{name}",
        "recipe": f"obdbench reconstruct {RECIPE}, pool of {pool} transitions",
        "moments_from": "published statistics of the genuine observations",
        **reached,
        "within_goal": within_goal(reached),
        "falls": int(arrays["terminals"].sum()),
        "environment": task.env_id,
        "versions": {package: version(package) for package in ("gymnasium", "mujoco", "torch")},
    }


def agreement(observations: Array, wanted: Standardizer) -> dict[str, Any]:
    """How near the moments are: errors of the mean in genuine spreads, and ratios of spreads."""
    found = Standardizer.fit(observations)
    error = np.abs(found.mean - wanted.mean) / wanted.std
    ratio = found.std / wanted.std
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
    """Means within 0.12 spreads on average, spreads about right and none below a half."""
    return bool(
        reached["mean_error"] <= 0.12
        and 0.8 <= reached["spread_ratio_median"] <= 1.2
        and reached["spread_ratio_smallest"] > 0.5
    )


def write(dataset: Dataset, path: Path) -> None:
    """Store as NPZ in one step; the card goes along as the bytes of its JSON."""
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
    """The episodes are counted anew: earlier versions took broken-off ones for complete."""
    made = Dataset(id=f"recon/{name}", task=get_task(name), **arrays)
    kept = {key: value for key, value in card.items() if key != "normalized_return_mean"}
    counted = {"episodes": len(made.episode_returns()), "interrupted": made.interrupted_episodes()}
    return replace(made, card=kept | counted)
