"""The option that names the task of files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from support.toy_suite import write_hopper


def test_the_task_option_applies_to_files_that_name_none(
    call: Callable[..., tuple[object, str, str]], tmp_path: Path
) -> None:
    write_hopper(tmp_path / "mine.npz")
    files = ("--dataset", "file:mine.npz", "--dataset", "file:mine.npz#walker2d")
    code, out, _ = call(
        *("run", "quick", "--objective", "dbc", *files, "--task", "hopper", "--dry-run")
    )
    assert code == 0
    assert "file:mine.npz#task=hopper dbc" in out
    assert "file:mine.npz#walker2d dbc" in out


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
