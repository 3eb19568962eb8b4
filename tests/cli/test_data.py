"""``obdbench data`` from the outside."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from support.toy_suite import write_hopper
from typer.testing import CliRunner

from obdbench.cli.data import app
from obdbench.datasets.loading import load_dataset
from obdbench.errors import InvalidSettingError, UnknownNameError
from obdbench.teachers import published_scores


def call(*arguments: str):
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_list_names_all_and_their_state(tmp_path, monkeypatch):
    monkeypatch.setenv("OBDBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    lines = call("list").stdout.splitlines()
    assert len(lines) >= 27
    assert all("included" in line for line in lines if line.startswith("embedded/"))
    assert all("not fetched" in line for line in lines if line.startswith("d4rl/"))
    (tmp_path / "hopper_medium-v2.hdf5").touch()
    (line,) = call("list", "d4rl/hopper-medium-v2").stdout.splitlines()
    assert "  fetched  " in line


def test_list_says_where_nothing_matches():
    result = call("list", "nope*")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("Nothing matches 'nope*'.")


def test_list_imports_nothing_heavy():
    script = (
        "import sys; from typer.testing import CliRunner; from obdbench.cli.data import app; "
        "assert CliRunner().invoke(app, ['list']).exit_code == 0; "
        "sys.exit(bool({'torch', 'ray', 'pandas', 'mujoco'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_sources_that_are_not_fetched_or_built_are_refused():
    with pytest.raises(InvalidSettingError, match="cannot be downloaded"):
        call("fetch", "embedded/hopper-medium-v1")
    for other in ("d4rl/hopper-medium-v2", "embedded/hoper-*"):
        with pytest.raises(UnknownNameError):
            call("build", other)
    with pytest.raises(UnknownNameError, match="embedded/hopper-medium-v1"):
        call("build", "embedded/hopper-medum-v1")


@pytest.mark.mirror
def test_fetch_names_the_file_and_the_published_teacher(mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    for name in ("walker2d_medium", "walker2d_random"):
        (tmp_path / f"{name}-v2.hdf5").touch()
    data, teacher = call("fetch", "d4rl/walker2d-medium-v2").stdout.splitlines()
    assert data.endswith("walker2d_medium-v2.hdf5")
    assert "Cal-QL-walker2d" in teacher
    assert len(call("fetch", "d4rl/walker2d-random-v2").stdout.splitlines()) == 1


def verify_teachers(monkeypatch, *scores):
    """``data verify`` with given names, measured and published scores."""
    monkeypatch.setattr(published_scores, "compare_published_teachers", lambda episodes: scores)
    return call("verify")


def test_verify_compares_and_judges(monkeypatch):
    good = [("a", 50.0, 51.0), ("b", 40.0, 36.0)]
    result = verify_teachers(monkeypatch, *good)
    assert result.exit_code == 0
    assert [line.split()[-1] for line in result.stdout.splitlines()[1:]] == ["-1.0", "+4.0", "+1.5"]
    result = verify_teachers(monkeypatch, *good, ("c", 90.0, 60.0))
    assert result.exit_code == 1
    assert re.search(r"\bc\b.*\b15 points", result.output)
    assert re.search(r"mean.*\b5 points", result.output)


def test_verify_accepts_differences_within_the_bounds(monkeypatch):
    other = ("b", 50.0, 40.0)
    assert verify_teachers(monkeypatch, ("a", 50.0, 64.9), other).exit_code == 0
    result = verify_teachers(monkeypatch, ("a", 50.0, 65.1), other)
    assert result.exit_code == 1
    assert result.stderr == "a differs by more than 15 points.\n"
    assert verify_teachers(monkeypatch, ("a", 50.0, 54.9)).exit_code == 0
    result = verify_teachers(monkeypatch, ("a", 50.0, 55.1))
    assert result.exit_code == 1
    assert result.stderr == "The mean differs by more than 5 points.\n"


def test_verify_loads_a_user_file(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "hopper.npz",
        observations=rng.normal(size=(50, 11)),
        actions=rng.uniform(-1, 1, size=(50, 3)),
        rewards=rng.normal(size=50),
        terminals=np.zeros(50, bool),
    )
    assert "49 transitions" in call("verify", f"file:{tmp_path}/hopper.npz").stdout


def test_verify_shows_returns_and_moments_beside_the_published_ones():
    lines = call("verify", "embedded/hopper-medium-v1", "--episodes", "1").stdout.splitlines()
    rows = {line[2:24].strip(): line[24:].split() for line in lines[2:]}
    shipped = load_dataset("embedded/hopper-medium-v1").card["committed"]
    assert rows["transitions"] == [f"{shipped['transitions']:,}", "999,906"]
    assert rows["episodes"] == [f"{shipped['episodes']}", "-"]
    assert rows["return mean"][1] == "1,422.0"
    assert rows["return std"][1] == "379.0"
    assert {"return min", "return max", "normalized return mean"} <= set(rows)
    assert rows["observation mean 10"][1] != "-"
    assert rows["action std 2"][1] == "-"


def test_verify_goes_on_after_a_defective_file(tmp_path):
    bad, good = tmp_path / "bad.npz", tmp_path / "good.npz"
    write_hopper(good)
    columns = dict(np.load(good))
    columns["observations"][3, 0] = np.nan
    np.savez(bad, **columns)
    result = call("verify", f"file:{bad}", f"file:{good}", "--task", "hopper")
    assert result.exit_code == 1
    assert f"file:{good}#task=hopper: " in result.stdout
    assert "not finite" in result.stderr
    with pytest.raises(InvalidSettingError, match=r"file:good\.npz"):
        call("verify", "good.npz")
