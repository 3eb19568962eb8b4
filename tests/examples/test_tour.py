"""The tour's scripts, each with --quick, on the synset that the first of them leaves."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from obdbench.distillation.synset import Synset

TOUR = Path(__file__).parents[2] / "examples" / "tour"


def run(script: str, *arguments: str) -> None:
    """A script in this process, which has torch imported already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *arguments, "--quick"])
        patch.syspath_prepend(str(TOUR))
        runpy.run_path(str(TOUR / script), run_name="__main__")


@pytest.fixture(scope="module")
def synset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the first script saves; DBC needs no teacher and is the quickest."""
    path = tmp_path_factory.mktemp("tour") / "s.safetensors"
    run("01_distill.py", "--objective", "dbc", "--out", str(path))
    return path


def test_distil_saves_what_it_distilled(synset: Path) -> None:
    saved_synset = Synset.load(synset)
    assert (saved_synset.card["objective"], saved_synset.card["step"], len(saved_synset)) == (
        "dbc",
        4,
        32,
    )


def test_distil_says_how_it_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("01_distill.py", "--objective", "dbc", "--out", str(tmp_path / "s.safetensors"))
    lines = capsys.readouterr().out.splitlines()
    for name, line in zip(("random selection", "dbc"), lines[1:3], strict=True):
        assert re.fullmatch(rf"{name} +32 pairs, normalized return -?\d+\.\d", line)


def test_inspect_draws_the_states(
    synset: Path, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    script = TOUR / "02_inspect_synset.py"
    done = python(script, synset, "--quick", "--out", "pictures", cwd=synset.parent)
    pictures = synset.parent / "pictures"
    pixels = _pixels(pictures / "components.png")
    assert min(pixels.shape[:2]) > 300
    assert pixels[..., :3].std() > 0.01
    assert ("skipped the strip" in done.stdout) != (pictures / "strip.png").is_file()
    if "skipped the strip" not in done.stdout:
        frames = np.split(_pixels(pictures / "strip.png"), 3, axis=1)
        assert not np.array_equal(frames[0], frames[2])


def test_inspect_says_so_where_nothing_renders(
    synset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "no-such-backend")
    run("02_inspect_synset.py", str(synset), "--out", str(tmp_path))
    assert "skipped the strip" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["components.png"]


def test_an_own_policy_learns_from_the_synset(
    synset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("03_train_your_own.py", str(synset))
    assert re.search(r"^Hopper-v4, 32 pairs: -?\d+\.\d$", capsys.readouterr().out, re.MULTILINE)


def test_finetuning_compares_at_equal_steps(
    synset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("04_pretrain_then_finetune.py", str(synset))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows[0] == ["steps", "10", "20"]
    assert [row[0] for row in rows[1:]] == ["scratch", "pretrained"]
    scores = np.array([row[1:] for row in rows[1:]], float)
    assert np.isfinite(scores).all()
    assert not np.array_equal(scores[0], scores[1])


def test_cloning_lowers_the_loss_and_depends_on_the_seed_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(TOUR))
    shared = runpy.run_path(str(TOUR / "policy.py"))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 5), dtype=np.float32)
    a = np.tanh(x[:, :2])
    mean, scale = np.zeros(5, np.float32), np.ones(5, np.float32)

    def loss(seed: int, steps: int) -> float:
        return shared["clone"](
            shared["initial_policy"](mean, scale, 2, seed), x, a, steps=steps, seed=seed
        )

    assert loss(0, 60) < 0.2 * loss(0, 1)
    assert loss(0, 20) == loss(0, 20)
    assert loss(0, 20) != loss(1, 20)


def _pixels(path: Path) -> np.ndarray:
    from matplotlib import image

    return np.asarray(image.imread(path))
