"""Where a score was measured: package versions, device, source commit."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from obdbench.results.record import Environment
from obdbench.version import __version__

PACKAGES = ("torch", "numpy", "gymnasium", "mujoco", "zuko")


@cache
def versions() -> dict[str, str]:
    """The packages that decide numbers."""
    found = {"python": platform.python_version(), "obdbench": __version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def git_commit() -> str | None:
    """Commit of the source tree, marked where files were changed since; None outside of one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    command += ["--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def device_name(device: str) -> str:
    """``cpu``, or the GPU's name."""
    if not device.startswith("cuda"):
        return device

    return str(torch.cuda.get_device_name(device))


def environment(env_id: str, device: str, threads: int) -> Environment:
    """The record's environment of a trial that runs here."""
    return Environment(
        env_id=env_id,
        device=device_name(device),
        threads=threads,
        versions=versions(),
        git_commit=git_commit(),
    )
