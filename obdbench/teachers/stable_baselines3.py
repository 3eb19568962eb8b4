"""Teachers from models that Stable-Baselines3 saved: SAC and TD3 with ``MlpPolicy``.

A model is a zip file. Only the state dictionary ``policy.pth`` in it and the text of the settings
are read, never the pickles in the settings. The policy acts on raw observations; its actions
between -1 and 1 span the bounds of the environment, as Stable-Baselines3 rescales them.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from obdbench.errors import InvalidDataError
from obdbench.teachers.checkpoint import (
    MAX_BYTES,
    check_size,
    imported_teacher,
    join_heads,
    named_layers,
    read_checkpoint,
    sequential_layers,
    unreadable_file_errors,
    unusable_teacher_errors,
)
from obdbench.teachers.teacher import Layers, Teacher, with_constant_std

POLICY, SETTINGS = "policy.pth", "data"
FORM = "a SAC or TD3 model of Stable-Baselines3 with MlpPolicy and ReLU"


def load(path: Path) -> Teacher:
    """Read a zip file that ``model.save`` wrote."""
    with unreadable_file_errors(path):
        check_size(path)
        with zipfile.ZipFile(path) as archive:
            content = _read_entry(archive, path, POLICY)
            settings = _read_settings(archive, path)
    state = read_checkpoint(path, content)
    _check_activation(path, settings)
    with unusable_teacher_errors(path, FORM):
        return imported_teacher(
            path, "Stable-Baselines3", *_read_actor(state), _read_critics(state)
        )


def _read_entry(archive: zipfile.ZipFile, path: Path, name: str) -> bytes:
    entry = archive.getinfo(name)
    if entry.file_size > MAX_BYTES:
        raise InvalidDataError(
            f"The checkpoint {path.name} is refused: {name} unpacks to more than {MAX_BYTES:,} "
            "bytes.",
            f"Use a model whose files have at most {MAX_BYTES // 2**20} MiB each.",
        )
    with archive.open(entry) as stream:
        return stream.read(MAX_BYTES)


def _read_settings(archive: zipfile.ZipFile, path: Path) -> Mapping[str, Any]:
    if SETTINGS not in archive.namelist():
        return {}
    settings = json.loads(_read_entry(archive, path, SETTINGS))
    return settings if isinstance(settings, dict) else {}


def _check_activation(path: Path, settings: Mapping[str, Any]) -> None:
    """Raise an error if the settings name an activation other than ReLU."""
    policy = settings.get("policy_kwargs")
    activation = str(policy.get("activation_fn", "ReLU")) if isinstance(policy, dict) else "ReLU"
    if re.search(r"\bReLU\b", activation) is None:
        raise InvalidDataError(
            f"The policy {path.name} has the activation {activation}.", f"Use {FORM}."
        )


def _read_actor(state: Mapping[str, Any]) -> tuple[str, Layers]:
    if "actor.latent_pi.0.weight" in state:
        hidden = sequential_layers(state, "actor.latent_pi")
        mean = named_layers(state, ["actor.mu"])
        return "SAC", (*hidden, join_heads(mean, named_layers(state, ["actor.log_std"])))
    return "TD3", with_constant_std(sequential_layers(state, "actor.mu"))


def _read_critics(state: Mapping[str, Any]) -> tuple[Layers, ...]:
    names = sorted({key.split(".")[1] for key in state if key.startswith("critic.qf")})
    return tuple(sequential_layers(state, f"critic.{name}") for name in names)
