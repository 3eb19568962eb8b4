"""Small disks that fill up or refuse, as real file systems."""

import json
import os
import subprocess
from contextlib import contextmanager

import pytest


@contextmanager
def mount_disk(folder, kibibytes=2048):
    """A tmpfs of so many KiB at a folder; the test is skipped where mounting is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={kibibytes}k,mode=0755"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "obdbench-test", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder, options):
    """Change a disk under a running program; whether it was allowed to."""
    command = ["mount", "-o", f"remount,{options}", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def set_immutable(folder, immutable):
    """Forbid that anything is written in a folder, even by root; whether that was possible."""
    command = ["chattr", "+i" if immutable else "-i", str(folder)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def fill_disk(folder, leave_kibibytes):
    """A file that leaves only so many bytes of the disk free."""
    free = os.statvfs(folder)
    size = free.f_bavail * free.f_bsize - leave_kibibytes * 1024
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    return ballast


def count_readable_results(folder):
    """How many results there are, each of which can be read."""
    paths = [path for path in folder.glob("*.json") if path.name != "manifest.json"]
    return len([json.loads(path.read_text()) for path in paths])
