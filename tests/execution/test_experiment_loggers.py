"""Experiment loggers: files of TensorBoard, of wandb offline, and of MLflow without a server."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support.toy_suite import PLUGINS

from obdbench.errors import MissingExtraError, UnknownNameError
from obdbench.execution import experiment_loggers
from obdbench.execution.config import ExecutionConfig
from obdbench.execution.events import Event
from obdbench.execution.experiment_loggers import ExperimentLogger, check_loggers
from obdbench.execution.run import RunSummary, execute, plan
from obdbench.results.headline import mean_headline_score
from obdbench.results.store import ResultStore

Scalars = dict[str, list[tuple[int, float]]]


@pytest.fixture
def config(tmp_path: Path, in_process: None) -> ExecutionConfig:
    return ExecutionConfig(out=tmp_path / "results", workers=1, plugins=PLUGINS)


def read_event_files(folder: Path) -> Scalars:
    """The scalars in a folder of event files, by tag, as (step, value)."""
    scalars: Scalars = defaultdict(list)
    for value, step in read_summaries(folder):
        if value.HasField("simple_value"):
            scalars[value.tag].append((step, value.simple_value))
    return scalars


def read_summaries(folder: Path) -> Iterator[tuple[Any, int]]:
    """The values in a folder of event files, each with its step."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    for path in sorted(folder.glob("events.*")):
        content = path.read_bytes()
        while content:
            (size,) = struct.unpack("<Q", content[:8])  # then 4 bytes of checksum before and after
            event = event_pb2.Event.FromString(content[12 : 12 + size])
            content = content[16 + size :]
            yield from ((value, event.step) for value in event.summary.value)


def check_scalars(scalars: Scalars, summary: RunSummary, key: str) -> None:
    result = summary.results[key]
    assert [step for step, _ in scalars["loss"]]
    assert {step for step, _ in scalars["score"]} == {point.step for point in result.points}
    expected = mean_headline_score(result)
    assert scalars["final_score"] == [(result.spec.settings.steps, pytest.approx(expected))]


def test_tensorboard_files_contain_loss_and_scores(toy_suite, config: ExecutionConfig) -> None:
    pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
    config = replace(config, loggers=("tensorboard",))
    summary = execute(plan(toy_suite("student", "raises"), config))
    folder = summary.store.folder / "tensorboard"
    assert {path.name for path in folder.iterdir()} == set(summary.status)
    (good,) = (key for key, status in summary.status.items() if status == "ok")
    check_scalars(read_event_files(folder / good), summary, good)
    if find_spec("matplotlib"):
        pictures = [
            (step, value.image.encoded_image_string[:4])
            for value, step in read_summaries(folder / good)
            if value.HasField("image")
        ]
        assert pictures == [(step, b"\x89PNG") for step in (0, 2, 4)]
    (failed,) = set(summary.status) - {good}
    assert "final_score" not in read_event_files(folder / failed)


def test_tensorboard_reads_the_files(toy_suite, config: ExecutionConfig) -> None:
    pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is not installed",
    )
    summary = execute(plan(toy_suite("student"), replace(config, loggers=("tensorboard",))))
    (key,) = summary.status
    events = accumulator.EventAccumulator(str(summary.store.folder / "tensorboard" / key))
    events.Reload()
    scalars = {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }
    check_scalars(scalars, summary, key)


@pytest.mark.ray_cluster
def test_events_from_ray_are_logged(toy_suite, config: ExecutionConfig) -> None:
    pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
    config = replace(config, loggers=("tensorboard",), executor="ray")
    summary = execute(plan(toy_suite("student"), config))
    (key,) = summary.status
    check_scalars(read_event_files(summary.store.folder / "tensorboard" / key), summary, key)


def test_mlflow_contains_loss_and_scores(
    toy_suite, config: ExecutionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    summary = execute(plan(toy_suite("student"), replace(config, loggers=("mlflow",))))
    (key,) = summary.status
    client = mlflow.MlflowClient((summary.store.folder / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("obdbench/toy")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.tags["key"] == key
    assert run.info.status == "FINISHED"
    if find_spec("matplotlib"):
        assert client.list_artifacts(run.info.run_id, "images")
    scalars = {
        name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }
    check_scalars(scalars, summary, key)


def test_wandb_writes_files_offline(
    toy_suite, config: ExecutionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    summary = execute(plan(toy_suite("student"), replace(config, loggers=("wandb",))))
    (path,) = summary.store.folder.glob("wandb/offline-run-*/*.wandb")
    if find_spec("matplotlib"):
        assert len(list(path.parent.glob("files/media/images/synset_*.png"))) == 3
    content = path.read_bytes()
    assert all(word in content for word in (b"final_score", b"loss", b"score"))


class BrokenLog:
    """A logger whose server is lost after the first number."""

    def __init__(self, *arguments: object) -> None:
        self.calls = 0

    def log(self, metrics: object, step: int) -> None:
        self.calls += 1
        if self.calls > 1:
            raise ConnectionError("server lost")

    def log_picture(self, name: str, picture: object, step: int) -> None:
        """Accept pictures."""

    def finish(self, status: str) -> None:
        raise ConnectionError("server lost")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(experiment_loggers.LOGGERS, "broken", BrokenLog)
    monkeypatch.setitem(experiment_loggers.PACKAGES, "broken", "json")
    return "broken"


def test_broken_logger_does_not_end_the_run(
    toy_suite, config: ExecutionConfig, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    summary = execute(plan(toy_suite("student", "random"), replace(config, loggers=(broken,))))
    assert set(summary.status.values()) == {"ok"}
    assert caplog.text.count("server lost") == 1


def test_all_logs_are_finished_after_an_error(spec, broken, tmp_path: Path, monkeypatch) -> None:
    finished = []

    class Log(BrokenLog):
        def finish(self, status: str) -> None:
            finished.append(status)
            super().finish(status)

    monkeypatch.setitem(experiment_loggers.LOGGERS, broken, Log)
    trials = [spec(), spec("random")]
    with ExperimentLogger(broken, trials, ResultStore(tmp_path, "toy")) as listener:
        for trial in (*trials, *trials):  # the second number of the first trial raises an error
            listener.on_event(Event("step", trial.key, step=2, steps=4, loss=0.5))
    assert finished == ["interrupted"] * 2
    assert listener.logs == {}


def test_interrupted_trials_end_their_logs(spec, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
    trial = spec()
    with ExperimentLogger("tensorboard", [trial], ResultStore(tmp_path, "toy")) as listener:
        listener.on_event(Event("step", trial.key, step=2, steps=4, loss=0.5))
        listener.on_event(Event("restart", "unknown key"))
    assert listener.logs == {}
    assert read_event_files(tmp_path / "toy" / "tensorboard" / trial.key)["loss"] == [(2, 0.5)]


def test_unknown_and_missing_loggers_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError):
        check_loggers(["tensorbord"])
    monkeypatch.setitem(experiment_loggers.PACKAGES, "wandb", "package_that_does_not_exist")
    with pytest.raises(MissingExtraError, match=r"obdbench\[wandb\]"):
        check_loggers(["wandb"])


def test_missing_logger_leaves_no_folder(
    toy_suite, config: ExecutionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(experiment_loggers.PACKAGES, "wandb", "package_that_does_not_exist")
    with pytest.raises(MissingExtraError):
        plan(toy_suite("student"), replace(config, loggers=("wandb",)))
    assert not config.out.exists()
