"""Renders the states on standard input; see :mod:`obdbench.tasks.rendering`."""

from __future__ import annotations

import json
import sys
from base64 import b64encode

import gymnasium
import mujoco
from imageio import v3 as imageio

CAMERA = "track"


def render_group(env_id: str, observations: list[list[float]], size: int) -> list[str]:
    """JPEG pictures in base64, one per observation; none if these do not determine a pose."""
    model = gymnasium.make(env_id).unwrapped.model
    if any(len(observation) != model.nq - 1 + model.nv for observation in observations):
        return []
    data, pictures = mujoco.MjData(model), []
    has_camera = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, CAMERA) >= 0
    with mujoco.Renderer(model, size, size) as renderer:
        for observation in observations:
            data.qpos[1:] = observation[: model.nq - 1]
            data.qvel[:] = observation[model.nq - 1 :]
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, camera=CAMERA if has_camera else -1)
            picture = imageio.imwrite("<bytes>", renderer.render(), extension=".jpeg")
            pictures.append(b64encode(picture).decode())
    return pictures


def main() -> None:
    """Read ``[[environment, observations], ...]`` and write a list of pictures for each."""
    groups = json.load(sys.stdin)
    pictures = [render_group(env_id, rows, int(sys.argv[1])) for env_id, rows in groups]
    sys.stdout.write(f"\n{json.dumps(pictures)}\n")


if __name__ == "__main__":
    main()
