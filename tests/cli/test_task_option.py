"""The option that names the task of files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from support.toy_suite import write_hopper


def test_the_task_option_applies_to_files_that_name_none(
    call: Callable[..., tuple[object, str, str]], tmp_path: Path
) -> None:
    write_hopper(tmp_path / "mine.npz")
    options = ("run", "quick", "--objective", "dbc", "--task", "hopper", "--dry-run")
    code, out, _ = call(*options, "--dataset", "file:mine.npz", "--set", "pairs=8")
    assert code == 0
    assert "file:mine.npz#task=hopper dbc" in out
    code, _, err = call(*options, "--dataset", "file:mine.npz#walker2d", "--set", "pairs=8")
    assert code == 2
    assert "Walker2d-v4" in err
    code, _, err = call(*options)
    assert code == 2
    assert err.count("\n") == 1
    assert "--task" in err


def test_a_dry_run_finds_a_missing_teacher_and_a_missing_file(
    call: Callable[..., tuple[object, str, str]], tmp_path: Path
) -> None:
    write_hopper(tmp_path / "mine.npz")
    options = ("run", "quick", "--objective", "pbc", "--set", "pairs=8", "--dry-run")
    for dataset, problem in (("mine.npz", "teacher"), ("other.npz", "no file")):
        code, out, err = call(*options, "--dataset", f"file:{dataset}#hopper")
        assert (code, out) == (2, "")
        assert problem in err
        assert err.count("\n") == 1


def test_an_unknown_task_is_one_line(
    call: Callable[..., tuple[object, str, str]], tmp_path: Path
) -> None:
    write_hopper(tmp_path / "mine.npz")
    code, _, err = call("teach", "file:mine.npz", "--task", "hoper", "--steps", "1")
    assert code == 2
    assert "hopper" in err
    assert err.count("\n") == 1


def test_tasks_are_listed(call: Callable[..., tuple[object, str, str]]) -> None:
    _, out, _ = call("list", "tasks")
    assert {"hopper", "ant", "pendulum", "hopper-v5"} <= {
        line.split()[0] for line in out.split("\n") if line
    }
