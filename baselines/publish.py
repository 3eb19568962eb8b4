"""Teachers as files: in half precision, measured, with a card beside each."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baselines.rows import EPISODES, deterministic_returns, write_row
from obdbench.bench.record import Result
from obdbench.data.dataset import Array, load_dataset
from obdbench.envs.scores import normalized_return
from obdbench.teachers.teacher import Layers, Teacher, load, load_teacher

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
                "what": "the full collection, of which the dataset is a subsample",
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
        halved(learner.teacher(index, card)).save(path)
        teacher = load(path)
        (returns,) = deterministic_returns([teacher.act], dataset.task, episodes)
        scores = normalized_return(dataset.task, returns)
        card["measured"] = {
            "normalized_return": _mean(scores),
            "standard_deviation": round(float(scores.std()), 2),
            "episodes": episodes,
            "policy": "deterministic",
            "environment": dataset.task.env_id,
        }
        halved(learner.teacher(index, card)).save(path)
        card["checksum"] = load(path).checksum
        card["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
        paths.append(path)
    return paths


def halved(teacher: Teacher) -> Teacher:
    """The same teacher in half precision; the moments of the states stay as they are."""

    def half(network: Layers) -> Layers:
        return tuple((weight.half(), bias.half()) for weight, bias in network)

    return replace(
        teacher, actor=half(teacher.actor), critics=tuple(half(each) for each in teacher.critics)
    )


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
