"""Offline RL on the whole data: the teachers of the embedded datasets, and their rows.

Datasets of one task train side by side (:mod:`obdbench.offline_rl.trainer`) on their full
collections where these were rebuilt, else on the embedded datasets. The teacher is the policy after
the last gradient step; the number of steps is fixed beforehand and no return in an environment
influences the choice. Teachers are stored in half precision, with a card beside each that contains
the return over 100 deterministic episodes. The row ``<algorithm>-whole`` of a dataset is its
teacher's score. The default settings are those of the teachers in the package.

    python -m baselines.offline_rl --dataset embedded/hopper-medium-v1 --algorithm td3-bc
    python -m baselines.offline_rl --dataset embedded/hopper-medium-v1 --rows-only
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from baselines.rows import (
    EPISODES,
    RESULTS_FOLDER,
    format_result,
    write_row,
)
from obdbench.cli.options import parse_assignments
from obdbench.collection.recipe import load_collection
from obdbench.datasets.dataset import Dataset
from obdbench.datasets.download import sha256_of
from obdbench.datasets.loading import load_dataset
from obdbench.errors import InvalidDataError, run_script
from obdbench.io import write_atomically
from obdbench.offline_rl.api import measure_return
from obdbench.offline_rl.trainer import (
    ALGORITHMS,
    DEFAULT_ALGORITHM,
    DEFAULT_STEPS,
    state_name,
    train_teachers,
)
from obdbench.reporting.grids.grid import BASELINES
from obdbench.results.record import Result
from obdbench.tasks.rollout import deterministic_returns
from obdbench.tasks.task import normalized_return
from obdbench.teachers.loading import load_teacher
from obdbench.teachers.teacher import Layers, Teacher

TEACHERS = Path("build/teachers")
ROWS_ONLY = "score existing teachers: those in --teachers, else the dataset's default teacher"


def full_collection(dataset_id: str, folder: Path) -> Dataset:
    """The full collection of an embedded dataset, or the dataset itself if it was not rebuilt."""
    path = folder / f"{dataset_id.rpartition('/')[2]}.npz"
    return load_collection(path) if path.exists() else load_dataset(dataset_id)


def publish_teacher(teacher: Teacher, dataset: Dataset, folder: Path) -> Path:
    """Write a teacher in half precision with its card beside it."""
    behavior = normalized_return(dataset.task, dataset.episode_returns())
    card: dict[str, Any] = {
        **teacher.card,
        "behavior_normalized_return": round(float(behavior.mean()), 2),
        "measured": measure_return(in_half_precision(teacher), dataset.task, EPISODES),
        "license": "MIT; trained by the obdbench project",
    }
    path = teacher_path(dataset.id, folder)
    convert_teacher(replace(teacher, card=card), torch.float16).save(path)
    card["checksum"] = Teacher.load(path).checksum
    card["sha256"] = sha256_of(path)
    write_atomically(path.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
    return path


def teacher_path(dataset_id: str, folder: Path) -> Path:
    """Path of the teacher of a dataset in a folder of teachers."""
    return folder / f"{dataset_id.rpartition('/')[2]}-teacher.safetensors"


def in_half_precision(teacher: Teacher) -> Teacher:
    """The teacher as it is read again: rounded to half precision, in single precision."""
    return convert_teacher(convert_teacher(teacher, torch.float16), torch.float32)


def convert_teacher(teacher: Teacher, dtype: torch.dtype) -> Teacher:
    """The same networks in another precision; the moments of the states stay as they are."""

    def convert(network: Layers) -> Layers:
        return tuple((weight.to(dtype), bias.to(dtype)) for weight, bias in network)

    critics = tuple(convert(critic) for critic in teacher.critics)
    return replace(teacher, actor=convert(teacher.actor), critics=critics)


def teacher_row(dataset: Dataset, teacher: Teacher, out: Path, episodes: int = EPISODES) -> Result:
    """The row ``<algorithm>-whole`` of a teacher that was trained on the dataset."""
    name = f"{str(teacher.card.get('algorithm', 'teacher')).lower()}-whole"
    if name not in BASELINES:
        raise InvalidDataError(
            f"The teacher of {dataset.id} is not trained by one of obdbench's algorithms, so it "
            "has no baseline row.",
            f"Rows exist for {', '.join(row for row in BASELINES if row.endswith('-whole'))}.",
        )
    return write_row(
        dataset,
        name,
        {0: deterministic_returns([teacher.act], dataset.task, episodes)},
        out,
        params=changed_settings(teacher),
        steps=int(teacher.card.get("steps", 0)),
        seconds=float(teacher.card.get("seconds", 0.0)),
        teacher=teacher,
    )


def changed_settings(teacher: Teacher) -> dict[str, Any]:
    """The settings of a teacher's algorithm that differ from their defaults.

    The default of ``bfloat16`` depends on the processor, so it is left out.
    """
    algorithm = ALGORITHMS.get(str(teacher.card.get("algorithm", "")).lower())
    settings = teacher.card.get("settings")
    if algorithm is None or not isinstance(settings, dict):
        return {}
    defaults = asdict(algorithm.settings_type())
    return {
        name: value
        for name, value in settings.items()
        if name != "bfloat16" and value != defaults.get(name)
    }


def train_and_publish(
    datasets: Sequence[Dataset],
    algorithm: str,
    steps: int,
    settings: dict[str, Any],
    teachers_folder: Path,
    work_folder: Path,
) -> list[Path]:
    """Train the teachers of datasets of one task and write them."""
    state_path = work_folder / f"{algorithm}-{datasets[0].task.name}-{state_name(datasets)}.pt"
    teachers = train_teachers(
        datasets, algorithm, steps=steps, settings=settings, state_path=state_path
    )
    paths = [
        publish_teacher(teacher, dataset, teachers_folder)
        for teacher, dataset in zip(teachers, datasets, strict=True)
    ]
    state_path.unlink(missing_ok=True)
    return paths


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", nargs="+", action="extend", required=True)
    trained = [name for name, kind in ALGORITHMS.items() if not kind.evaluates_policy]
    parser.add_argument("--algorithm", choices=trained, default=DEFAULT_ALGORITHM)
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS, help="gradient steps")
    parser.add_argument(
        "--set",
        action="append",
        metavar="NAME=VALUE",
        help="setting of the algorithm to override; may be repeated",
    )
    parser.add_argument("--rows-only", action="store_true", help=ROWS_ONLY)
    parser.add_argument("--no-rows", action="store_true", help="train without writing rows")
    parser.add_argument("--collections", type=Path, default=Path("build/collect/full"))
    parser.add_argument("--work", type=Path, default=Path("build/offline-rl"), help="for resuming")
    parser.add_argument("--teachers", type=Path, help=f"folder of the teachers [{TEACHERS}]")
    parser.add_argument(
        "--out", type=Path, default=RESULTS_FOLDER, help="folder of the suite's results"
    )
    options = parser.parse_args(arguments)
    if not options.rows_only:
        settings = parse_assignments(options.set)
        collections = [full_collection(name, options.collections) for name in options.dataset]
        collections.sort(key=lambda each: each.task.name)
        for _, members in groupby(collections, key=lambda each: each.task.name):
            train_and_publish(
                list(members),
                options.algorithm,
                options.steps,
                settings,
                options.teachers or TEACHERS,
                options.work,
            )
    if not options.no_rows:
        for dataset_id in options.dataset:
            if options.rows_only and options.teachers is None:
                teacher = load_teacher(dataset_id)
            else:
                teacher = Teacher.load(teacher_path(dataset_id, options.teachers or TEACHERS))
            print(format_result(teacher_row(load_dataset(dataset_id), teacher, options.out)))


if __name__ == "__main__":
    sys.exit(run_script(main))
