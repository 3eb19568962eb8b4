r"""D4RL's recipe (Fu et al., 2020, arXiv 2004.07219), from one SAC run per task to three datasets.

*medium* holds rollouts of the stochastic policy of one checkpoint, *medium-replay* the replay
buffer up to that checkpoint, and *medium-expert* rollouts of that policy and, as the other half,
rollouts of the stochastic policy of the best checkpoint. The medium checkpoint :math:`k` is the
one nearest to D4RL's published mean returns,

.. math:: \min_k \; (m_k - R_\text{medium})^2 + s_k^2 / n_k + (r_k - R_\text{medium-replay})^2

with mean :math:`m_k` and standard deviation :math:`s_k` of the checkpoint's :math:`n_k` stochastic
evaluation episodes, and mean return :math:`r_k` of the episodes in the replay buffer before it.
The few nearest and the few best checkpoints are evaluated over more episodes, and the choice is
among these.

:func:`build` writes the *full collection*, on which teachers are trained, and packs a subsample of
whole episodes, small enough to be shipped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from obdbench.collection.actor import Actor
from obdbench.collection.sac import SacSettings, train
from obdbench.datasets.dataset import Array, Dataset, episode_ends
from obdbench.datasets.embedded import known_name
from obdbench.datasets.identifier import DatasetId
from obdbench.datasets.packing import pack, unpack
from obdbench.datasets.references import get_reference
from obdbench.datasets.statistics import describe
from obdbench.errors import InvalidDataError
from obdbench.io import replace_atomically, write_atomically
from obdbench.progress_bar import progress_bar
from obdbench.tasks.rollout import Episodes
from obdbench.tasks.task import Task, get_task, normalized_return

RUNS = Path("build/collect")
MIN_REPLAY = 100_000
SHIPPED = 100_000
BATCH = 100  # episodes that are simulated together
CANDIDATES = 5  # nearest and best checkpoints that are evaluated again
CANDIDATE_EPISODES = 100
CANDIDATE_SEEDS = 3_000_000
ROLLOUT_SEEDS = {"medium": 1_000_000, "expert": 2_000_000}
SUBSAMPLE_STREAM = 3
FIELDS = ("observations", "actions", "rewards", "terminals", "next_observations", "timeouts")
RECIPE = {
    "medium-replay": "replay buffer of the SAC run up to the medium checkpoint",
    "medium": "stochastic rollouts of the medium checkpoint",
    "medium-expert": "one half stochastic rollouts of the medium checkpoint, one half of the best",
}
MEDIUM_RULE = (
    "the checkpoint nearest to D4RL's mean returns: its stochastic return to that of medium, the "
    "return of the replay buffer before it to that of medium-replay"
)


@dataclass(frozen=True)
class Checkpoint:
    """One evaluation in a run's log: stochastic returns at a step."""

    step: int
    mean: float
    std: float
    episodes: int


@dataclass(frozen=True)
class Run:
    """The folder of a SAC run, finished or still going on.

    ``candidates`` are the checkpoints that were evaluated over more episodes after the training. If
    there are any, the medium and the best checkpoint are chosen among them.
    """

    folder: Path
    task: Task
    settings: Mapping[str, Any]
    checkpoints: tuple[Checkpoint, ...]  # as evaluated during the training
    candidates: tuple[Checkpoint, ...] = ()

    @classmethod
    def read(cls, folder: Path, task: Task) -> Run:
        """Read settings and log; of a step that is logged twice, the later line counts."""
        try:
            lines = (folder / "progress.jsonl").read_text(encoding="utf-8").splitlines()
            settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
            checkpoints: dict[int, Checkpoint] = {}
            candidates: dict[int, Checkpoint] = {}
            for entry in map(json.loads, lines):
                evaluated = Checkpoint(
                    entry["step"],
                    float(entry["stochastic"]),
                    float(entry["stochastic_std"]),
                    int(entry.get("episodes", settings["eval_episodes"])),
                )
                candidates.pop(evaluated.step, None)
                (candidates if "episodes" in entry else checkpoints)[evaluated.step] = evaluated
            by_step = [
                tuple(evaluated for _, evaluated in sorted(each.items()))
                for each in (checkpoints, candidates)
            ]
            env_id = settings["env_id"]
            if not checkpoints:
                raise ValueError("its log is empty")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidDataError(
                f"{folder} is not the folder of a SAC run: {type(error).__name__}: {error}.",
                "Name the folder of a run, or leave --run-folder out to start one.",
            ) from error
        if env_id != task.env_id:
            raise InvalidDataError(
                f"The run in {folder} is of {env_id}, not {task.env_id}.",
                "Name the folder of a run of this task.",
            )
        return cls(folder, task, settings, *by_step)

    @cached_property
    def replay(self) -> dict[str, Array]:
        """The replay buffer, oldest transition first."""
        with np.load(self.folder / "replay.npz", allow_pickle=False) as file:
            return {field: file[field] for field in FIELDS}

    def replay_until(self, step: int) -> dict[str, Array]:
        """Whole episodes of the replay buffer before a step, without interrupted ones."""
        arrays = {field: array[:step] for field, array in self.replay.items()}
        complete = episode_ends(arrays["terminals"], arrays["timeouts"])
        pieces = episode_ends(complete, None, arrays["observations"], arrays["next_observations"])
        ends, interruptions = np.flatnonzero(complete), np.flatnonzero(pieces & ~complete)
        keep = np.zeros(len(complete), dtype=bool)
        for first, last in zip(np.append(-1, ends[:-1]) + 1, ends, strict=True):
            keep[first : last + 1] = not ((interruptions >= first) & (interruptions <= last)).any()
        return {field: array[keep] for field, array in arrays.items()}

    def medium(self) -> Checkpoint:
        """The checkpoint nearest to D4RL's medium and medium-replay returns."""
        return self.nearest_to_medium(self.candidates or self.checkpoints)[0]

    def nearest_to_medium(self, checkpoints: Iterable[Checkpoint]) -> list[Checkpoint]:
        """Checkpoints by their distance to D4RL's medium and medium-replay returns."""
        medium = get_reference(f"{self.task.name}-medium-v2").return_mean
        replay = get_reference(f"{self.task.name}-medium-replay-v2").return_mean
        if max(checkpoint.mean for checkpoint in self.checkpoints) < medium:
            raise InvalidDataError(
                f"The run in {self.folder} has not reached D4RL's medium return of {medium:.0f}.",
                "Continue it with more --steps.",
            )
        ends = np.flatnonzero(episode_ends(self.replay["terminals"], self.replay["timeouts"]))
        totals = np.cumsum(self.replay["rewards"], dtype=np.float64)[ends]
        distances: dict[Checkpoint, float] = {}
        for checkpoint in checkpoints:
            done = int(np.searchsorted(ends, checkpoint.step))
            saved = checkpoint.step <= len(self.replay["rewards"])
            if saved and done and ends[done - 1] + 1 >= MIN_REPLAY:
                distances[checkpoint] = (
                    (checkpoint.mean - medium) ** 2
                    + checkpoint.std**2 / checkpoint.episodes
                    + (totals[done - 1] / done - replay) ** 2
                )
        if not distances:
            raise InvalidDataError(
                f"The replay buffer in {self.folder} holds {len(self.replay['rewards']):,} "
                f"transitions; the recipe needs whole episodes of {MIN_REPLAY:,}.",
                "Continue the run with more --steps.",
            )
        return sorted(distances, key=distances.__getitem__)

    def best(self) -> Checkpoint:
        """The checkpoint with the highest stochastic return."""
        return max(self.candidates or self.checkpoints, key=lambda checkpoint: checkpoint.mean)

    def with_candidates_evaluated(self, *, progress: bool = True) -> Run:
        """The run after more episodes of the checkpoints that may be chosen; they are logged."""
        best = sorted(self.checkpoints, key=lambda checkpoint: -checkpoint.mean)
        nearest = self.nearest_to_medium(self.checkpoints)
        evaluated = {candidate.step for candidate in self.candidates}
        pending = [
            checkpoint
            for checkpoint in {*nearest[:CANDIDATES], *best[:CANDIDATES]}
            if checkpoint.episodes < CANDIDATE_EPISODES and checkpoint.step not in evaluated
        ]
        seeds = range(CANDIDATE_SEEDS, CANDIDATE_SEEDS + CANDIDATE_EPISODES)
        description = f"{self.task.name} candidates"
        for checkpoint in progress_bar(pending, desc=description, progress=progress):
            returns = self.actor(checkpoint).rollout(self.task, seeds, stochastic=True).returns
            entry = {
                "step": checkpoint.step,
                "stochastic": float(returns.mean()),
                "stochastic_std": float(returns.std()),
                "episodes": CANDIDATE_EPISODES,
            }
            with (self.folder / "progress.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(entry) + "\n")
        return Run.read(self.folder, self.task)

    def actor(self, checkpoint: Checkpoint) -> Actor:
        """The policy at a checkpoint."""
        return Actor.load(self.folder / f"policy-{checkpoint.step:07d}.safetensors")


def build(
    dataset_id: str,
    *,
    run_folder: Path | None = None,
    out: Path | None = None,
    steps: int | None = None,
    transitions: int | None = None,
    progress: bool = True,
) -> Path:
    """Apply the recipe for one embedded dataset; returns the packed file.

    ``run_folder`` holds the SAC run and is reused if it has a log; an interrupted run is continued.
    ``out`` receives the packed file with its card, and the full collection in its subfolder
    ``full``. ``steps`` is the length of the run; a shorter run is continued. ``transitions`` is the
    size of rollouts, by default D4RL's.
    """
    name = known_name(dataset_id)
    task = get_task(name)
    folder, out = run_folder or RUNS / task.name, out or RUNS
    settings = unfinished_settings(folder)
    if steps is not None or not (folder / "progress.jsonl").exists():
        settings = SacSettings(task.env_id, **({} if steps is None else {"steps": steps}))
    if settings is not None:
        train(task, settings, folder, progress=progress)
    run = Run.read(folder, task).with_candidates_evaluated(progress=progress)
    collection = collect(run, name, transitions=transitions, progress=progress)
    save_collection(collection, out / "full" / f"{name}.npz")
    return pack_subsample(collection, out)


def unfinished_settings(folder: Path) -> SacSettings | None:
    """The settings of a run that was interrupted before its last checkpoint; else None."""
    path, log = folder / "settings.json", folder / "progress.jsonl"
    if not path.exists() or not log.exists():
        return None
    settings = SacSettings(**json.loads(path.read_text(encoding="utf-8")))
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    last = max((entry["step"] for entry in entries), default=0)
    return settings if last + settings.eval_every <= settings.steps else None


def collect(
    run: Run, name: str, *, transitions: int | None = None, progress: bool = True
) -> Dataset:
    """The full collection of one dataset, with the recipe in its card."""
    level = DatasetId(name).level
    if transitions is None:
        transitions = get_reference(f"{run.task.name}-{level}-v2").rows
    medium = run.medium()
    checkpoints = {"medium": medium}
    if level == "medium-replay":
        parts = [run.replay_until(medium.step)]
    elif level == "medium":
        parts = [collect_rollouts(run, "medium", medium, transitions, progress)]
    else:
        checkpoints["expert"] = run.best()
        parts = [
            collect_rollouts(run, which, checkpoint, transitions // 2, progress)
            for which, checkpoint in checkpoints.items()
        ]
    arrays = {field: np.concatenate([part[field] for part in parts]) for field in FIELDS}
    card = {
        "recipe": RECIPE[level],
        "medium_checkpoint": MEDIUM_RULE,
        "parts": [len(part["rewards"]) for part in parts],
        "environment": {"id": run.task.env_id, **_versions("gymnasium", "mujoco")},
        "sac": {**run.settings, **_versions("jax", "optax")},
        "policies": {
            which: {
                "step": checkpoint.step,
                "evaluation_return": round(checkpoint.mean, 1),
                "evaluation_episodes": checkpoint.episodes,
                "normalized_return": round(float(normalized_return(run.task, checkpoint.mean)), 1),
            }
            for which, checkpoint in checkpoints.items()
        },
    }
    return Dataset(id=f"embedded/{name}", task=run.task, card=card, **arrays)


def collect_rollouts(
    run: Run, which: str, checkpoint: Checkpoint, transitions: int, progress: bool
) -> dict[str, Array]:
    """Whole stochastic episodes of a checkpoint, at least ``transitions`` transitions."""
    actor, seed, collected = run.actor(checkpoint), ROLLOUT_SEEDS[which], 0
    batches: list[dict[str, Array]] = []
    label = f"{run.task.name} {which}"
    with progress_bar(total=transitions, unit="step", desc=label, progress=progress) as bar:
        while collected < transitions:
            seeds = range(seed, seed := seed + BATCH)
            batch = with_timeouts(actor.rollout(run.task, seeds, stochastic=True, record=True))
            batches.append(batch)
            collected += len(batch["rewards"])
            bar.update(len(batch["rewards"]))
    arrays = {field: np.concatenate([batch[field] for batch in batches]) for field in FIELDS}
    ends = np.flatnonzero(episode_ends(arrays["terminals"], arrays["timeouts"]))
    stop = int(ends[np.searchsorted(ends, transitions - 1)]) + 1
    return {field: array[:stop] for field, array in arrays.items()}


def with_timeouts(episodes: Episodes) -> dict[str, Array]:
    """Recorded episodes with time-outs; the last step of an episode is a terminal or a time-out."""
    last = np.zeros(episodes.lengths.sum(), dtype=bool)
    last[np.cumsum(episodes.lengths) - 1] = True
    return {**episodes.columns, "timeouts": last & ~episodes.columns["terminals"]}


def subsample(dataset: Dataset, transitions: int, seed: int = 0) -> Dataset:
    """Random whole episodes in their order, an equal number of transitions from each part."""
    ends = np.flatnonzero(episode_ends(dataset.terminals, dataset.timeouts))
    starts = np.append(0, ends[:-1] + 1)
    rng = np.random.default_rng([seed, SUBSAMPLE_STREAM])
    parts = dataset.card["parts"]
    chosen: list[Array] = []
    for stop, size in zip(np.cumsum(parts), parts, strict=True):
        episodes = rng.permutation(np.flatnonzero((starts >= stop - size) & (ends < stop)))
        sizes = np.cumsum(ends[episodes] - starts[episodes] + 1)
        count = int(np.searchsorted(sizes, transitions / len(parts))) + 1
        chosen.append(np.sort(episodes[:count]))
    rows = [np.arange(starts[i], ends[i] + 1) for i in np.concatenate(chosen)]
    arrays = {field: getattr(dataset, field)[np.concatenate(rows)] for field in FIELDS}
    return Dataset(id=dataset.id, task=dataset.task, card=dataset.card, **arrays)


def pack_subsample(collection: Dataset, out: Path, transitions: int = SHIPPED) -> Path:
    """Pack a subsample of the full collection into ``out``, with its card beside it."""
    sample = subsample(collection, transitions)
    blob = pack(sample)
    packed = unpack(blob, sample.id, sample.task, {})
    path = out / f"{DatasetId(collection.id).name}.npz"
    write_atomically(path, blob)
    published = get_reference(f"{DatasetId(collection.id).short_name}-v2")
    card = {
        "id": collection.id,
        **collection.card,
        "d4rl": {
            "returns_of": f"{DatasetId(collection.id).short_name}-v2",
            "return_mean": published.return_mean,
            "return_std": published.return_std,
            "normalized_return_mean": round(
                float(normalized_return(collection.task, published.return_mean)), 2
            ),
        },
        "full_collection": describe(collection),
        "committed": {
            **describe(packed),
            "selection": "whole episodes at random, an equal share of each part",
        },
        "encoding": {
            "format": "obdbench.datasets.packing: 16-bit codes per column, differences in time",
            "largest_error_in_standard_deviations": rounding_errors(sample, packed),
        },
        "sha256": hashlib.sha256(blob).hexdigest(),
        "checksum": packed.checksum,
        "license": "MIT; generated by the obdbench project",
    }
    write_atomically(path.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
    return path


def rounding_errors(exact: Dataset, packed: Dataset) -> dict[str, float]:
    """The largest change by packing, in units of each column's standard deviation."""
    errors = {}
    for field in ("observations", "actions", "rewards"):
        before, after = getattr(exact, field), getattr(packed, field)
        std = np.maximum(before.std(axis=0), 1e-6)
        errors[field] = float(f"{(np.abs(after - before) / std).max():.1e}")
    return errors


def save_collection(dataset: Dataset, path: Path) -> None:
    """Write a full collection, exact and with its card."""
    arrays = {field: getattr(dataset, field) for field in FIELDS}
    card = json.dumps(dict(dataset.card))
    with replace_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez(file, id=dataset.id, card=card, **arrays)


def load_collection(path: Path) -> Dataset:
    """Read what :func:`save_collection` wrote."""
    with np.load(path, allow_pickle=False) as file:
        dataset_id, card = str(file["id"]), json.loads(str(file["card"]))
        arrays = {field: file[field] for field in FIELDS}
    return Dataset(id=dataset_id, task=get_task(dataset_id), card=card, **arrays)


def _versions(*packages: str) -> dict[str, str]:
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return versions
