"""Disks that are full or read-only, from the start or in mid-run: one clear line, nothing lost."""

import pytest
from support.disks import count_readable_results, fill_disk, mount_disk, remount, set_immutable
from support.processes import call_obdbench, list_processes, short_folder, wait_until_ended
from support.toy_suite import TOY, comparable_files

EXECUTORS = pytest.mark.parametrize("executor", ["local", "ray"])
SUITE = """
datasets = ["toy/hopper-toy-v0"]
objectives = [{objectives}]
protocols = ["toy"]
seeds = [0, 1]
[settings]
pairs = 4
inner_steps = 2
steps = 8
batch = 8
architecture = "mlp2"
evaluate_at = [0.0, 0.5, 1.0]
"""
TRIALS = 8
RAY_STARTS = 3  # Ray gives up after 30 seconds, which a busy machine may need


@pytest.fixture
def toy(tmp_path, plugin):
    """``toy(executor, out, *options)`` runs eight toy trials: exit code, output, errors."""
    names = [f'{{ name = "student", params = {{ pause = {0.1 + n * 1e-6} }} }}' for n in range(8)]
    (tmp_path / "toy.toml").write_text(SUITE.format(objectives=", ".join(names)))

    def run(executor, out, *options, temporary=None):
        if executor == "ray":
            pytest.importorskip("ray")
        arguments = ["toy.toml", "--plugin", TOY, "--executor", executor, "--out", str(out)]
        for _ in range(RAY_STARTS):
            outcome = call_obdbench("run", *arguments, *options, cwd=tmp_path, temporary=temporary)
            if "Ray did not start: The current node timed out" not in outcome[2]:
                break
        return outcome

    return run


def assert_one_error_line(outcome, *parts):
    """The run ends with exit code 2; the last line is its only error and contains the parts."""
    code, out, err = outcome
    assert code == 2, err
    assert "Traceback" not in out + err
    errors = [line for line in err.splitlines() if line.startswith("obdbench: ")]
    assert len(errors) == 1, err
    assert err.splitlines()[-1] == errors[0]
    for part in parts:
        assert part in errors[0]


@pytest.mark.reliability(
    "fault",
    "Read-only results folder",
    injection="a tmpfs mounted read-only, with either executor",
    outcome="one line before any work, exit code 2",
)
@EXECUTORS
def test_a_read_only_folder_is_one_line(tmp_path, toy, executor):
    with mount_disk(tmp_path / "disk") as folder:
        assert remount(folder, "ro")
        assert_one_error_line(toy(executor, folder / "out"), "Read-only file system", "--out")
        assert list(folder.iterdir()) == []


@pytest.mark.reliability(
    "fault",
    "Full disk, from the start",
    injection="a tmpfs without a free byte, with either executor",
    outcome="one line before any work, exit code 2",
)
@EXECUTORS
def test_a_full_disk_is_one_line(tmp_path, toy, executor):
    with mount_disk(tmp_path / "disk") as folder:
        fill_disk(folder, 0)
        assert_one_error_line(toy(executor, folder / "out"), "No space left", "--out")
        assert [path.name for path in folder.iterdir()] == ["ballast"]


@pytest.mark.slow
@pytest.mark.reliability(
    "fault",
    "Disk that fills up in mid-run",
    injection="a tmpfs with room for some of eight trials, with either executor",
    outcome="one line, exit code 2, every existing result is complete; with room again `--resume` "
    "ends with the results of an undisturbed run, bit for bit",
)
@EXECUTORS
def test_a_disk_that_fills_up_loses_nothing(tmp_path, toy, executor):
    assert toy("local", tmp_path / "whole")[0] == 0
    with mount_disk(tmp_path / "disk") as folder:
        ballast = fill_disk(folder, 288)
        assert_one_error_line(toy(executor, folder / "out"), "No space left", "--resume")
        assert 0 < count_readable_results(folder / "out" / "toy") < TRIALS
        ballast.unlink()
        code, _, err = toy(executor, folder / "out", "--resume")
        assert code == 0, err
        assert comparable_files(folder / "out" / "toy") == comparable_files(
            tmp_path / "whole" / "toy"
        )


@pytest.mark.slow
@pytest.mark.reliability(
    "fault",
    "Results folder that becomes unwritable in mid-run",
    injection="`chattr +i` of the folder after the first result, with either executor",
    outcome="one line, exit code 2; writable again, `--resume` ends with the results of an "
    "undisturbed run, bit for bit",
)
@EXECUTORS
def test_a_folder_that_becomes_unwritable_loses_nothing(tmp_path, toy, executor, monkeypatch):
    """A worker makes the folder unwritable itself, so that no load lets a run end before that."""
    assert toy("local", tmp_path / "whole")[0] == 0
    folder = tmp_path / "out" / "toy"
    folder.mkdir(parents=True)
    if not set_immutable(folder, True):
        pytest.skip("needs a file system that knows chattr +i, and the right to use it")
    set_immutable(folder, False)
    monkeypatch.setenv("TOY_IMMUTABLE", str(folder))
    try:
        outcome = toy(executor, folder.parent)
    finally:
        set_immutable(folder, False)
    monkeypatch.delenv("TOY_IMMUTABLE")
    assert_one_error_line(outcome, "Operation not permitted", "--resume")
    assert 0 < count_readable_results(folder) < TRIALS
    code, _, err = toy(executor, folder.parent, "--resume")
    assert code == 0, err
    assert comparable_files(folder) == comparable_files(tmp_path / "whole" / "toy")


@pytest.mark.slow
@pytest.mark.reliability(
    "fault",
    "Full temporary folder, Ray",
    injection="a tmpfs without a free byte as TMPDIR, where Ray keeps its files",
    outcome="one line, or the run is done without Ray's logs; no process remains",
)
def test_a_full_temporary_folder_is_one_line_or_ignored(tmp_path, toy, attempts):
    with attempts, short_folder() as folder, mount_disk(folder, 64):
        fill_disk(folder, 0)
        outcome = toy("ray", tmp_path / "out", temporary=folder)
        if outcome[0] == 0:
            attempts.outcome = "the run is done without Ray's logs; no process remains"
            assert count_readable_results(tmp_path / "out" / "toy") == TRIALS
        else:
            attempts.outcome = "one line, exit code 2; no process remains"
            assert_one_error_line(outcome, "TMPDIR")
        assert (
            wait_until_ended(child for child, line in list_processes() if str(folder) in line)
            == set()
        )
