"""Describes the environment of a measurement: package versions, device, source commit."""

from __future__ import annotations

import platform
import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from obdbench.results.record import Environment
from obdbench.version import __version__

PACKAGES = ("torch", "numpy", "gymnasium", "mujoco", "zuko")


@cache
def package_versions() -> dict[str, str]:
    """Return the versions of the packages that affect scores."""
    versions = {"python": platform.python_version(), "obdbench": __version__}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


@cache
def find_git_commit() -> str | None:
    """Return the commit of the source tree, marked if files have changed; None outside git."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    command += ["--exclude=*"]
    try:
        completed = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return completed.stdout.strip() or None


def get_device_name(device: str) -> str:
    """Return ``cpu``, or the name of the GPU."""
    if not device.startswith("cuda"):
        return device
    return str(torch.cuda.get_device_name(device))


def describe_environment(
    env_id: str,
    device: str,
    threads: int,
    reference_returns: tuple[float, float] | None = None,
) -> Environment:
    """Return the environment record of a trial that runs in this process."""
    return Environment(
        env_id=env_id,
        device=get_device_name(device),
        threads=threads,
        versions=package_versions(),
        reference_returns=reference_returns,
        git_commit=find_git_commit(),
    )
