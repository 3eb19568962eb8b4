"""Teachers as files: in half precision, measured, with a card beside each."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from baselines.rows import EPISODES, deterministic_returns, write_row
from obdbench.datasets.dataset import Array, Dataset
from obdbench.datasets.loading import load_dataset
from obdbench.policies.networks import Params
from obdbench.results.record import Result
from obdbench.tasks.task import normalized_return
from obdbench.teachers.loading import load_teacher
from obdbench.teachers.teacher import Layers, Teacher

if TYPE_CHECKING:
    from baselines.cal_ql import Learner


def publish(learner: Learner, folder: Path, episodes: int = EPISODES) -> list[Path]:
    """Write every dataset's teacher in half precision, with its measured return in the card."""
    paths = []
    for index, dataset in enumerate(learner.datasets):
        path = folder / f"{dataset.id.rpartition('/')[2]}-teacher.safetensors"
        card: dict[str, Any] = {
            "id": dataset.id,
            "method": "Cal-QL (Nakamoto et al., 2023, arXiv 2303.05479), baselines/cal_ql.py",
            "data": {
                "transitions": len(dataset),
                "checksum": dataset.checksum,
                "what": _what(dataset),
                "behaviour_normalized_return": _mean(
                    normalized_return(dataset.task, dataset.episode_returns())
                ),
            },
            "settings": asdict(learner.settings),
            "trained_with": [each.id for each in learner.datasets],
            "seconds": round(learner.seconds),
            "licence": "MIT; trained by the obdbench project",
        }
        folder.mkdir(parents=True, exist_ok=True)
        teachers = [learner.teacher(index, card, best) for best in (True, False)]
        policies = [rounded(teacher).act for teacher in teachers]
        scores, last = (
            normalized_return(dataset.task, returns)
            for returns in deterministic_returns(policies, dataset.task, episodes)
        )
        card["measured"] = {
            "normalized_return": _mean(scores),
            "standard_deviation": round(float(scores.std()), 2),
            "episodes": episodes,
            "policy": "the best of those scored every 500 steps, on ten other episodes each",
            "last_policy_normalized_return": _mean(last),
            "environment": dataset.task.env_id,
        }
        halved(teachers[0]).save(path)
        card["checksum"] = Teacher.load(path).checksum
        card["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
        paths.append(path)
    return paths


def _what(dataset: Dataset) -> str:
    """Whether a teacher learned from what comes with the package, or from more."""
    if dataset.checksum == load_dataset(dataset.id).checksum:
        return "the dataset as it comes with the package"
    return "the full collection, of which the dataset is a subsample"


def layers(params: Params, row: int) -> Layers:
    """One network of a stack, as a teacher holds it."""
    return tuple(
        (params[f"w{i}"][row].detach().clone(), params[f"b{i}"][row].detach().clone())
        for i in range(len(params) // 2)
    )


def halved(teacher: Teacher) -> Teacher:
    """The same teacher in half precision; the moments of the states stay as they are."""
    return _cast(teacher, torch.float16)


def rounded(teacher: Teacher) -> Teacher:
    """The teacher as it will be read again: rounded to half precision, in single precision."""
    return _cast(halved(teacher), torch.float32)


def _cast(teacher: Teacher, dtype: torch.dtype) -> Teacher:
    def cast(network: Layers) -> Layers:
        return tuple((weight.to(dtype), bias.to(dtype)) for weight, bias in network)

    critics = tuple(cast(critic) for critic in teacher.critics)
    return replace(teacher, actor=cast(teacher.actor), critics=critics)


def teacher_row(dataset_id: str, out: Path, episodes: int = EPISODES) -> Result:
    """The row ``cal-ql-whole`` on one dataset: its teacher, scored."""
    dataset, teacher = load_dataset(dataset_id), load_teacher(dataset_id)
    returns = deterministic_returns([teacher.act], dataset.task, episodes)
    settings = teacher.card.get("settings", {})
    return write_row(
        dataset,
        "cal-ql-whole",
        {0: returns},
        out,
        steps=int(settings.get("steps", 0)),
        seconds=float(teacher.card.get("seconds", 0.0)),
        teacher=teacher,
    )


def _mean(scores: Array) -> float:
    return round(float(scores.mean()), 2)
