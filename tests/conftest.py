"""Fixtures that several packages of tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import HealthCheck, settings
from support.command_server import CommandServer, run_command_server
from support.toys import make_toy_dataset, make_toy_teacher

from obdbench.datasets.dataset import Dataset
from obdbench.teachers.teacher import Teacher

# a busy machine is not a failure
settings.register_profile("obdbench", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("obdbench")

pytest_plugins = ["support.recording", "support.trial_fixtures"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests never write into the user's cache, unless one is set for them."""
    os.environ.setdefault("OBDBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def toy_dataset() -> Dataset:
    return make_toy_dataset()


@pytest.fixture(scope="session")
def toy_teacher(toy_dataset: Dataset) -> Teacher:
    return make_toy_teacher(toy_dataset)


@pytest.fixture(scope="session")
def command_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandServer]:
    """Runs commands without the time that they take to start."""
    with run_command_server() as server:
        yield server


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The mirror folder with the published teachers; without one, the test is skipped."""
    beside = Path(__file__).parents[2] / "shared" / "mirror"
    folder = Path(os.environ.get("OBDBENCH_MIRROR") or beside)
    if not (folder / "raw.githubusercontent.com").is_dir():
        pytest.skip("no mirror of the published teachers: set OBDBENCH_MIRROR")
    monkeypatch.setenv("OBDBENCH_MIRROR", str(folder))
    monkeypatch.setenv("OBDBENCH_OFFLINE", "1")
    return folder


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[object, str, str]]]:
    """The command line in this process: exit code, output, errors."""
    from obdbench.cli import main as cli

    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)

    def run(*arguments: str) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    yield run
    signal.signal(signal.SIGTERM, handler)
