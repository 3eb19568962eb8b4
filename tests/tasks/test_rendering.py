"""Pictures of states: where MuJoCo can render, and where it cannot."""

from __future__ import annotations

from base64 import b64decode

import numpy as np
import pytest

from obdbench.tasks.rendering import StatesToRender, render_states

HOPPER = StatesToRender(
    "Hopper-v4", np.array([[1.25, *np.zeros(10)], [0.9, 0.3, -1.0, *np.zeros(8)]])
)
PENDULUM = StatesToRender("InvertedDoublePendulum-v4", np.zeros((1, 9)))


def test_states_are_rendered_where_an_observation_determines_the_pose() -> None:
    pictures, others = render_states([HOPPER, PENDULUM], size=32)
    if not pictures:
        pytest.skip("MuJoCo cannot render on this machine")
    content = [b64decode(picture) for picture in pictures]
    assert all(picture.startswith(b"\xff\xd8\xff") for picture in content)  # JPEG
    assert content[0] != content[1]
    assert others == []


def test_without_a_rendering_library_there_are_no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disable")
    assert render_states([HOPPER]) == [[]]
