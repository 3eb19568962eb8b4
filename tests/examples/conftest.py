"""Run the examples as a reader would: each in a separate process and folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.paths import ROOT

Script = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The working tree's obdbench, one thread, no network."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OBDBENCH_OFFLINE": "1"}


@pytest.fixture(scope="session")
def python(environment: dict[str, str]) -> Script:
    """Run Python with arguments; it must succeed unless ``code`` says otherwise."""

    def call(
        *arguments: object, cwd: Path, code: int = 0, path: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        env = dict(environment)
        if path is not None:
            env["PYTHONPATH"] = os.pathsep.join([str(path), env["PYTHONPATH"]])
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(
            command, cwd=cwd, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    return call
