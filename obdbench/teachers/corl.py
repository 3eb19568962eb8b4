"""Teachers from CORL's checkpoints: TD3+BC, IQL, SAC-N and EDAC, CQL and Cal-QL.

The algorithm is recognized by the names in the state dictionaries. A checkpoint does not state how
observations were scaled; CORL's defaults are assumed: the moments of the dataset for TD3+BC, IQL,
CQL and Cal-QL, and raw observations for SAC-N and EDAC.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from obdbench.datasets.dataset import Standardizer
from obdbench.datasets.identifier import DatasetId
from obdbench.datasets.loading import load_dataset
from obdbench.datasets.references import find_reference
from obdbench.teachers.checkpoint import (
    check_tensor_sizes,
    imported_teacher,
    join_heads,
    named_layers,
    read_checkpoint,
    sequential_layers,
    teacher_from_checkpoint,
    unusable_teacher_errors,
)
from obdbench.teachers.teacher import Layers, Teacher, with_constant_std

FORM = "a checkpoint of CORL's TD3+BC, IQL, SAC-N, EDAC, CQL or Cal-QL"


def load(path: Path, dataset_id: str) -> Teacher:
    """Read a checkpoint that one of CORL's scripts wrote while training on the dataset."""
    content = read_checkpoint(path)
    with unusable_teacher_errors(path, FORM):
        actor = content["actor"]
        if "base_network.0.weight" in actor:
            card = {"algorithm": "Cal-QL or CQL", "source": f"CORL, {path.name}"}
            moments = standardizer_of(dataset_id)
            return teacher_from_checkpoint(content, f"corl:{path.name}", moments, card)
        if "trunk.0.weight" in actor:
            mean, log_std = named_layers(actor, ["mu"]), named_layers(actor, ["log_sigma"])
            layers: Layers = (*sequential_layers(actor, "trunk"), join_heads(mean, log_std))
            critics = _split_critics(content.get("critic", {}))
            return imported_teacher(path, "CORL", "SAC-N or EDAC", layers, critics)
        moments = standardizer_of(dataset_id)
        if "net.net.0.weight" in actor:
            layers = with_constant_std(sequential_layers(actor, "net.net"), actor.get("log_std"))
            q = content.get("qf", {})
            names = [name for name in ("q1.net", "q2.net") if f"{name}.0.weight" in q]
            critics = tuple(sequential_layers(q, name) for name in names)
            return imported_teacher(path, "CORL", "IQL", layers, critics, moments)
        layers = with_constant_std(sequential_layers(actor, "net"))
        states = [content[name] for name in ("critic_1", "critic_2") if name in content]
        critics = tuple(sequential_layers(state, "net") for state in states)
        return imported_teacher(path, "CORL", "TD3+BC", layers, critics, moments)


def standardizer_of(dataset_id: str) -> Standardizer:
    """The moments of a dataset; those of a genuine D4RL dataset are published."""
    parsed = DatasetId(dataset_id)
    reference = find_reference(parsed.name) if parsed.source == "d4rl" else None
    return load_dataset(dataset_id).standardizer if reference is None else reference.moments


def _split_critics(state: Mapping[str, Any]) -> tuple[Layers, ...]:
    """The critics of an ensemble, whose weights have the shape (critic, input, output)."""
    names = sorted(key.removesuffix(".weight") for key in state if key.endswith(".weight"))
    names.sort(key=lambda name: int(name.rpartition(".")[2]))
    stacks = [(state[f"{name}.weight"], state[f"{name}.bias"]) for name in names]
    check_tensor_sizes([tensor for stack in stacks for tensor in stack])
    count = len(stacks[0][0]) if stacks else 0
    return tuple(
        tuple((w[i].float().T.contiguous(), b[i].float().reshape(-1)) for w, b in stacks)
        for i in range(count)
    )
