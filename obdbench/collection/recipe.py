"""D4RL's recipe (Fu et al., 2020, arXiv 2004.07219), from one SAC run a task to three datasets.

*medium-replay* is the run's replay buffer up to the medium level, *medium* are stochastic rollouts
of the policy at that level, and *medium-expert* is one half of these and one half stochastic
rollouts of the run's best policy. The medium level is reached when the mean of five evaluations in
a row is a third of D4RL's expert return, or more; of these five it is the lowest that is itself.

:func:`build` writes the *full collection*, on which teachers are trained, and packs a subsample of
whole episodes of it, which is small enough to be committed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from obdbench.datasets.dataset import STD_OFFSET, Array, Dataset, Standardizer
from obdbench.datasets.embedded import SOURCE, short_name
from obdbench.datasets.packing import episode_ends, pack, unpack
from obdbench.errors import InvalidDataError
from obdbench.io import replace_atomically
from obdbench.tasks.rollout import Episodes, run_episodes
from obdbench.tasks.task import Task, get_task, normalized_return
from obdbench.teachers.teacher import Teacher

RUNS = Path("build/collect")
MEDIUM_SHARE = 1 / 3
WINDOW = 5
COLLECTED = 200_000
COMMITTED = 50_000
WAVE = 100
ROLLOUT_SEEDS = {"medium": 1_000_000, "expert": 2_000_000}
SUBSAMPLE_STREAM = 3
FIELDS = ("observations", "actions", "rewards", "terminals", "next_observations", "timeouts")
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True)
class Evaluation:
    """One line of a run's log: the mean return of deterministic episodes at a step."""

    step: int
    mean: float


@dataclass(frozen=True)
class Run:
    """A finished SAC run on disk, and the two policies that the recipe takes from it."""

    folder: Path
    task: Task
    settings: dict[str, Any]
    evaluations: tuple[Evaluation, ...]

    @classmethod
    def read(cls, folder: Path, task: Task) -> Run:
        """The run's settings and log; a step that was logged twice counts as it was last."""
        lines = (folder / "progress.jsonl").read_text().splitlines()
        entries = {(entry := json.loads(line))["step"]: float(entry["return"]) for line in lines}
        settings = json.loads((folder / "settings.json").read_text())
        evaluations = tuple(Evaluation(step, mean) for step, mean in sorted(entries.items()))
        return cls(folder, task, settings, evaluations)

    def medium(self) -> Evaluation:
        """The evaluation at the medium level."""
        level = MEDIUM_SHARE * self.task.expert_return
        for stop in range(WINDOW, len(self.evaluations) + 1):
            window = self.evaluations[stop - WINDOW : stop]
            reached = [each for each in window if each.mean >= level and each.step >= COMMITTED]
            if reached and sum(each.mean for each in window) / WINDOW >= level:
                return min(reached, key=lambda each: each.mean)
        raise InvalidDataError(
            f"The run in {self.folder} never reached a third of the expert's return.",
            "Give it more steps.",
        )

    def best(self) -> Evaluation:
        """The evaluation with the highest return."""
        return max(self.evaluations, key=lambda evaluation: evaluation.mean)

    def policy(self, evaluation: Evaluation) -> Teacher:
        """The actor at an evaluation, as a teacher without critics over raw observations."""
        from safetensors.torch import load_file

        tensors = load_file(self.folder / f"policy-{evaluation.step:07d}.safetensors")
        dense = [
            (tensors[f"Dense_{i}/kernel"].T.contiguous(), tensors[f"Dense_{i}/bias"])
            for i in range(len(tensors) // 2)
        ]
        *hidden, mean, log_std = dense
        last = (torch.cat([mean[0], log_std[0]]), torch.cat([mean[1], log_std[1]]))
        size = self.task.observation_size
        identity = Standardizer(
            np.zeros(size, np.float32), np.full(size, 1 - STD_OFFSET, np.float32)
        )
        name = f"sac-{self.task.name}-{evaluation.step}"
        return Teacher(name, (*hidden, last), (), identity, log_std_offset=0.0)


def build(
    dataset_id: str,
    *,
    run_folder: Path | None = None,
    out: Path | None = None,
    steps: int | None = None,
    progress: bool = True,
) -> Path:
    """Rerun the whole recipe of one embedded dataset; returns the packed file.

    ``run_folder`` holds the SAC run and is reused where it is finished, ``out`` receives the packed
    file and its card, ``steps`` shortens or lengthens the run. The full collection stays beside
    the run's folder, under ``full/``.
    """
    name = short_name(dataset_id)
    task = get_task(name)
    folder = run_folder or RUNS / task.name
    if not (folder / "replay.npz").exists():
        from obdbench.collection.sac import SacSettings, train

        train(SacSettings(task.env_id, **({} if steps is None else {"steps": steps})), folder)
    collection = collect(Run.read(folder, task), name, progress=progress)
    save_collection(collection, folder.parent / "full" / f"{name}.npz")
    return publish(collection, out or RUNS / "embedded")


def collect(run: Run, name: str, *, transitions: int = COLLECTED, progress: bool = True) -> Dataset:
    """The full collection of one dataset, with the recipe in its card."""
    level = name.removeprefix(f"{run.task.name}-").removesuffix("-v0")
    medium, best = run.medium(), run.best()
    if level == "medium-replay":
        parts, policies = [_replay(run, medium)], {"medium": medium}
    elif level == "medium":
        parts = [_rollouts(run, "medium", medium, transitions, progress)]
        policies = {"medium": medium}
    else:
        parts = [
            _rollouts(run, which, evaluation, transitions // 2, progress)
            for which, evaluation in (("medium", medium), ("expert", best))
        ]
        policies = {"medium": medium, "expert": best}
    arrays = {field: np.concatenate([part[field] for part in parts]) for field in FIELDS}
    card = {
        "recipe": _RECIPE[level],
        "medium_level": _MEDIUM_RULE,
        "parts": [len(part["rewards"]) for part in parts],
        "environment": {"id": run.task.env_id, **_versions("gymnasium", "mujoco")},
        "sac": {**run.settings, **_versions("sbx-rl")},
        "policies": {
            which: {
                "step": each.step,
                "evaluation_return": round(each.mean, 1),
                "normalized_return": round(float(normalized_return(run.task, each.mean)), 1),
            }
            for which, each in policies.items()
        },
    }
    return Dataset(id=f"{SOURCE}{name}", task=run.task, card=card, **arrays)


_RECIPE = {
    "medium-replay": "replay buffer of the SAC run up to the medium level",
    "medium": "stochastic rollouts of the SAC policy at the medium level",
    "medium-expert": "one half stochastic rollouts of the SAC policy at the medium level, "
    "one half of the run's best policy",
}
_MEDIUM_RULE = (
    "as soon as the mean of five evaluations in a row reaches a third of D4RL's expert return: of "
    "these five the lowest that itself reaches it, provided that replay holds 50,000 transitions"
)


def _replay(run: Run, medium: Evaluation) -> dict[str, Array]:
    """Whole episodes of the replay buffer before a step, without those that were broken off."""
    with np.load(run.folder / "replay.npz", allow_pickle=False) as file:
        arrays = {field: file[field][: medium.step] for field in FIELDS}
    ends = np.flatnonzero(arrays["terminals"] | arrays["timeouts"])
    jump = (arrays["next_observations"][:-1] != arrays["observations"][1:]).any(axis=1)
    broken = np.setdiff1d(np.flatnonzero(jump), ends)
    keep = np.zeros(medium.step, dtype=bool)
    for first, last in zip(np.append(-1, ends[:-1]) + 1, ends, strict=True):
        keep[first : last + 1] = not ((broken >= first) & (broken <= last)).any()
    return {field: array[keep] for field, array in arrays.items()}


def _rollouts(
    run: Run, which: str, evaluation: Evaluation, transitions: int, progress: bool
) -> dict[str, Array]:
    """At least so many transitions of whole stochastic episodes."""
    from tqdm import tqdm

    policy, seed = run.policy(evaluation), ROLLOUT_SEEDS[which]
    waves: list[dict[str, Array]] = []
    total = 0
    with tqdm(total=transitions, unit="step", desc=policy.id, disable=not progress) as bar:
        while total < transitions:
            seeds = range(seed, seed := seed + WAVE)
            rng = np.random.default_rng(seeds.start)
            waves.append(
                _flatten(run_episodes(_sampler(policy, rng), run.task, seeds, record=True))
            )
            bar.update(len(waves[-1]["rewards"]))
            total += len(waves[-1]["rewards"])
    arrays = {field: np.concatenate([wave[field] for wave in waves]) for field in FIELDS}
    ends = np.flatnonzero(arrays["terminals"] | arrays["timeouts"])
    stop = int(ends[np.searchsorted(ends, transitions - 1)]) + 1
    return {field: array[:stop] for field, array in arrays.items()}


def _sampler(policy: Teacher, rng: np.random.Generator) -> Callable[[Array, Array], Array]:
    def act(observations: Array, slots: Array) -> Array:
        return policy.act(observations, rng)

    return act


def _flatten(episodes: Episodes) -> dict[str, Array]:
    arrays = {
        field: np.concatenate(getattr(episodes, field)) for field in FIELDS if field != "timeouts"
    }
    timeouts = np.zeros(len(arrays["rewards"]), dtype=bool)
    timeouts[np.cumsum(episodes.lengths) - 1] = True
    return {**arrays, "timeouts": timeouts & ~arrays["terminals"]}


def subsample(dataset: Dataset, transitions: int, seed: int = 0) -> Dataset:
    """Episodes drawn at random, kept in order, until each part gives its share of transitions."""
    ends = episode_ends(dataset)
    starts = np.append(0, ends[:-1] + 1)
    rng = np.random.default_rng([seed, SUBSAMPLE_STREAM])
    parts = dataset.card["parts"]
    chosen: list[Array] = []
    for stop, size in zip(np.cumsum(parts), parts, strict=True):
        episodes = rng.permutation(np.flatnonzero((starts >= stop - size) & (ends < stop)))
        held = np.cumsum(ends[episodes] - starts[episodes] + 1)
        needed = int(np.searchsorted(held, transitions / len(parts))) + 1
        chosen.append(np.sort(episodes[:needed]))
    rows = [np.arange(starts[i], ends[i] + 1) for i in np.concatenate(chosen)]
    arrays = {field: getattr(dataset, field)[np.concatenate(rows)] for field in FIELDS}
    return Dataset(id=dataset.id, task=dataset.task, card=dataset.card, **arrays)


def publish(collection: Dataset, out: Path, transitions: int = COMMITTED) -> Path:
    """Pack a subsample of the full collection into ``out``, with its card beside it."""
    name = short_name(collection.id)
    sample = subsample(collection, transitions)
    blob = pack(sample)
    packed = unpack(blob, sample.id, sample.task, {})
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.npz"
    path.write_bytes(blob)
    card = {
        "id": collection.id,
        **collection.card,
        "full_collection": describe(collection),
        "committed": {
            **describe(packed),
            "observation_mean": _rounded(packed.standardizer.mean),
            "observation_std": _rounded(packed.standardizer.std),
            "selection": "whole episodes at random, an equal share of each part",
        },
        "encoding": {
            "format": "obdbench.datasets.packing: 16-bit codes a column, differences in time",
            "largest_error_in_standard_deviations": rounding_error(sample, packed),
        },
        "sha256": hashlib.sha256(blob).hexdigest(),
        "checksum": packed.checksum,
        "licence": "MIT; generated by the obdbench project",
    }
    path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return path


def describe(dataset: Dataset) -> dict[str, Any]:
    """Sizes and returns of a dataset of whole episodes."""
    returns = dataset.episode_returns()
    normalized = normalized_return(dataset.task, returns)
    return {
        "transitions": len(dataset),
        "episodes": len(returns),
        "return_quantiles": {
            f"{share:g}": round(float(np.quantile(returns, share)), 2) for share in QUANTILES
        },
        "normalized_return_mean": round(float(normalized.mean()), 2),
    }


def rounding_error(exact: Dataset, packed: Dataset) -> dict[str, float]:
    """What packing changed at most, in units of each column's standard deviation."""
    errors = {}
    for field in ("observations", "actions", "rewards"):
        before, after = getattr(exact, field), getattr(packed, field)
        spread = np.maximum(before.std(axis=0), 1e-6)
        errors[field] = float(f"{(np.abs(after - before) / spread).max():.1e}")
    return errors


def save_collection(dataset: Dataset, path: Path) -> None:
    """Write a full collection, exact and with its card; whole or not at all."""
    arrays = {field: getattr(dataset, field) for field in FIELDS}
    card = json.dumps(dict(dataset.card))
    with replace_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, id=dataset.id, card=card, **arrays)


def load_collection(path: Path) -> Dataset:
    """Read what :func:`save_collection` wrote."""
    with np.load(path, allow_pickle=False) as file:
        dataset_id, card = str(file["id"]), json.loads(str(file["card"]))
        arrays = {field: file[field] for field in FIELDS}
    return Dataset(id=dataset_id, task=get_task(dataset_id), card=card, **arrays)


def _versions(*packages: str) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def _rounded(values: Array) -> list[float]:
    return [round(float(value), 5) for value in values]
