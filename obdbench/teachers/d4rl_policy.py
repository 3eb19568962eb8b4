"""Teachers from the SAC policy that D4RL's HDF5 files contain (``metadata/policy``).

The medium and expert files of the gym-mujoco v2 family contain the policy that collected them: two
hidden layers and a tanh-Gaussian output over raw observations, without a critic.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import torch

from obdbench.datasets.arrays import check_storage, read_hdf5
from obdbench.errors import InvalidDataError
from obdbench.teachers.checkpoint import (
    imported_teacher,
    join_heads,
    named_layers,
    unreadable_file_errors,
    unusable_teacher_errors,
)
from obdbench.teachers.teacher import Teacher

GROUP = "metadata/policy"
LAYERS = ("fc0", "fc1", "last_fc", "last_fc_log_std")
TEXTS = {"nonlinearity": b"relu", "output_distribution": b"tanh_gaussian"}
FORM = "a D4RL file of the gym-mujoco v2 family that contains the policy that collected it"
MAX_TEXT_BYTES = 64


def load(path: Path) -> Teacher:
    """Read the policy in a D4RL file."""
    names = [f"{GROUP}/{layer}/{part}" for layer in LAYERS for part in ("weight", "bias")]
    with unreadable_file_errors(path):
        _check_structure(path)
        arrays = read_hdf5(path, names)
    with unusable_teacher_errors(path, FORM):
        state = {}
        for path_in_file, array in arrays.items():
            name = path_in_file.removeprefix(f"{GROUP}/").replace("/", ".")
            state[name] = torch.from_numpy(np.asarray(array, np.float32))
        output = join_heads(named_layers(state, LAYERS[2:3]), named_layers(state, LAYERS[3:]))
        hidden = named_layers(state, LAYERS[:2])
        return imported_teacher(path, "D4RL", "SAC", (*hidden, output))


def _check_structure(path: Path) -> None:
    """Raise an error for links, missing groups, and other activations or distributions."""
    with h5py.File(path, "r", locking=False) as file:
        groups = ["metadata", GROUP, *(f"{GROUP}/{name}" for name in (*LAYERS, *TEXTS))]
        for name in groups:
            if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                raise InvalidDataError(f"{path.name} contains no {name}.", f"Use {FORM}.")
        for name, expected in TEXTS.items():
            stored, text = file[f"{GROUP}/{name}"], b""
            if isinstance(stored, h5py.Dataset):
                check_storage(path, name, stored)
                if stored.dtype.itemsize <= MAX_TEXT_BYTES and stored.shape in ((), (1,)):
                    text = np.asarray(stored[()]).reshape(-1)[0]
            if (text.encode() if isinstance(text, str) else bytes(text)) != expected:
                raise InvalidDataError(
                    f"The {name} of the policy in {path.name} is not {expected.decode()}.",
                    f"Use {FORM}.",
                )
