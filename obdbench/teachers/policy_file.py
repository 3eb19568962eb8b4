"""Teachers from policy files, recognized by their content."""

from __future__ import annotations

import zipfile
from pathlib import Path

import h5py

from obdbench.errors import InvalidDataError
from obdbench.teachers import corl, d3rlpy, d4rl_policy, stable_baselines3
from obdbench.teachers.checkpoint import unreadable_file_errors
from obdbench.teachers.teacher import Teacher

PICKLE_START, ZIP_START = b"\x80", b"PK"


def load_policy_file(path: Path, dataset_id: str) -> Teacher:
    """Read a file as a teacher of a dataset.

    The formats are those of :meth:`Teacher.save`, Stable-Baselines3 (zip), d3rlpy (``.d3``), CORL
    (``torch.save``) and D4RL's HDF5 files. The dataset gives the moments of observations that a
    CORL checkpoint lacks.
    """
    if not path.is_file():
        raise InvalidDataError(f"There is no teacher file {path}.", "Check the path.")
    with unreadable_file_errors(path):
        with path.open("rb") as file:
            start = file.read(9)
        is_zip, names = start.startswith(ZIP_START), []
        if is_zip:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
    if h5py.is_hdf5(path):
        return d4rl_policy.load(path)
    if stable_baselines3.POLICY in names:
        return stable_baselines3.load(path)
    if is_zip:
        return corl.load(path, dataset_id)
    is_safetensors = start[8:] == b"{"  # after the length of the header
    if start.startswith(PICKLE_START) and not is_safetensors:
        return d3rlpy.load(path)
    return Teacher.load(path)
