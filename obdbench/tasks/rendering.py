"""Pictures of states as MuJoCo's renderer shows them.

MuJoCo selects its rendering library when it is imported, and a library that does not work may end
the process. Pictures are therefore rendered in a separate process
(:mod:`obdbench.tasks.render_process`), with the library that ``MUJOCO_GL`` names or with the first
of EGL and OSMesa that works.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

BACKENDS = ("egl", "osmesa")
TIMEOUT = 300.0


@dataclass(frozen=True)
class StatesToRender:
    """Observations in one environment of Gymnasium."""

    env_id: str
    observations: np.ndarray[Any, np.dtype[Any]]


def render_states(groups: Sequence[StatesToRender], size: int = 96) -> list[list[str]]:
    """JPEG pictures of ``size`` pixels per side in base64, one per observation of each group.

    A group is empty if its observations do not determine a pose, and every group is empty if
    MuJoCo cannot render on this machine. The horizontal position, which an observation does not
    contain, is 0.
    """
    content = [[group.env_id, np.asarray(group.observations, float).tolist()] for group in groups]
    chosen = os.environ.get("MUJOCO_GL")
    for backend in [chosen] if chosen else BACKENDS:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "obdbench.tasks.render_process", str(size)],
                input=json.dumps(content),
                env={**os.environ, "MUJOCO_GL": backend},
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            break
        if done.returncode == 0:
            pictures: list[list[str]] = json.loads(done.stdout.splitlines()[-1])
            return pictures
    return [[] for _ in groups]
