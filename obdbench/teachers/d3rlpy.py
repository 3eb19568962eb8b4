"""Teachers from models that d3rlpy 2 saved (``algo.save("model.d3")``).

A model is a pickle of three values: the configuration as JSON, the version, and the bytes of a
``torch.save`` archive. Nothing is unpickled: the three texts are taken from the list of the
pickle's operations, and an operation that could build anything else is refused. Policies of the
default encoder are read; mean Q functions become critics.
"""

from __future__ import annotations

import json
import pickletools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from obdbench.datasets.dataset import STD_OFFSET, Standardizer
from obdbench.errors import InvalidDataError
from obdbench.teachers.checkpoint import (
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

FORM = "a model of d3rlpy 2 with continuous actions and the default encoder"
PLAIN_OPERATIONS = {
    *("PROTO", "FRAME", "EMPTY_DICT", "MARK", "SETITEM", "SETITEMS", "STOP"),
    *("MEMOIZE", "BINPUT", "LONG_BINPUT"),
    *("SHORT_BINUNICODE", "BINUNICODE", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
}
LOG_STD_BOUNDS = {"iql": (-5.0, 2.0), "awac": (-6.0, 0.0)}  # of the constant standard deviations
ACTION_TOLERANCE = 0.01  # scalers fitted on data reach almost to the bounds


def load(path: Path) -> Teacher:
    """Read a file that ``algo.save`` wrote."""
    with unreadable_file_errors(path):
        check_size(path)
        content = _read_texts(path.read_bytes())
        archive, config = content["torch"], json.loads(content["config"])
        if not isinstance(archive, bytes):
            raise ValueError("it contains no weights")
        params, algorithm = config["config"]["params"], str(config["config"]["type"])
    states = read_checkpoint(path, archive)
    with unusable_teacher_errors(path, FORM):
        _check_config(path, params)
        policy = states["policy" if "policy" in states else "imitator"]
        return imported_teacher(
            path,
            "d3rlpy",
            algorithm,
            _read_actor(policy, algorithm),
            _read_critics(states.get("q_funcs", {})),
            _read_standardizer(params.get("observation_scaler")),
        )


def _read_texts(content: bytes) -> dict[str | bytes, str | bytes]:
    """The entries of a pickled dictionary of texts and bytes, without executing the pickle."""
    texts: list[str | bytes] = []
    for operation, argument, _ in pickletools.genops(content):
        if operation.name not in PLAIN_OPERATIONS:
            raise ValueError(f"its pickle contains {operation.name}")
        if isinstance(argument, str | bytes):
            texts.append(argument)
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _read_actor(state: Mapping[str, Any], algorithm: str) -> Layers:
    hidden = sequential_layers(state, "_encoder._layers")
    if "_fc.weight" in state:
        return with_constant_std((*hidden, *named_layers(state, ["_fc"])))
    mean = named_layers(state, ["_mu"])
    if "_logstd" in state:
        low, high = LOG_STD_BOUNDS[algorithm]
        log_std = low + (high - low) * torch.sigmoid(state["_logstd"].float().reshape(-1))
        return with_constant_std((*hidden, *mean), log_std)
    return (*hidden, join_heads(mean, named_layers(state, ["_logstd"])))


def _read_critics(state: Mapping[str, Any]) -> tuple[Layers, ...]:
    """The mean Q functions; a distributional one has several outputs and is left out."""
    names = sorted({key.split(".")[0] for key in state})
    critics = [
        (
            *sequential_layers(state, f"{name}._encoder._layers"),
            *named_layers(state, [f"{name}._fc"]),
        )
        for name in names
        if f"{name}._fc.weight" in state
    ]
    return tuple(critic for critic in critics if len(critic[-1][1]) == 1)


def _check_config(path: Path, params: Mapping[str, Any]) -> None:
    """Raise an error for activations other than ReLU and for actions that do not span -1 to 1."""
    problem = None
    for name, encoder in params.items():
        if name.endswith("encoder_factory"):
            activation = encoder.get("params", {}).get("activation", "relu")
            if encoder["type"] not in ("default", "vector") or activation != "relu":
                problem = f"the {name} {encoder['type']!r} with the activation {activation!r}"
    scaler = params.get("action_scaler") or {"type": "none"}
    if scaler["type"] != "none":
        low, high = (np.asarray(scaler["params"][key], float) for key in ("minimum", "maximum"))
        if max(np.abs(low + 1).max(), np.abs(high - 1).max()) > ACTION_TOLERANCE:
            problem = "an action scaler with other bounds than -1 and 1"
    if problem is not None:
        raise InvalidDataError(f"The policy {path.name} uses {problem}.", f"Use {FORM}.")


def _read_standardizer(scaler: Any) -> Standardizer | None:
    if not scaler or scaler["type"] == "none":
        return None
    params = scaler["params"]
    if scaler["type"] == "standard":
        mean, scale = np.asarray(params["mean"]), np.asarray(params["std"]) + params["eps"]
    elif scaler["type"] == "min_max":
        low, high = np.asarray(params["minimum"]), np.asarray(params["maximum"])
        mean, scale = (low + high) / 2, (high - low) / 2
    else:
        raise ValueError(f"the observation scaler {scaler['type']!r} is not supported")
    std = np.maximum(scale - STD_OFFSET, 0.0)
    return Standardizer(mean.astype(np.float32), std.astype(np.float32))
