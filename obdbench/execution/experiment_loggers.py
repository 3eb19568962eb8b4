"""Losses, scores and pictures of synsets in TensorBoard, Weights & Biases or MLflow.

Every trial is one run of the logger, named after the trial, with the fields of its spec as
configuration. ``loss`` is logged at the outer steps that the progress display receives, ``score``
(normalized return, mean over seeds and arms) and ``synset`` (the picture of
:func:`~obdbench.execution.experiment_loggers.draw_synset` for the first seed, where matplotlib is
installed) at each evaluation point, and ``final_score`` at the end. Events reach
:class:`ExperimentLogger` in the process that started the run, from every executor.

===============  ==================================================================================
``tensorboard``  event files in ``OUT/SUITE/tensorboard/KEY`` (extra ``tensorboard``)
``wandb``        files in ``OUT/SUITE/wandb``; ``WANDB_MODE=offline`` keeps them local
``mlflow``       the server of ``MLFLOW_TRACKING_URI``, or files in ``OUT/SUITE/mlflow``
===============  ==================================================================================
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import numpy as np

from obdbench.datasets.projection import StateProjection
from obdbench.distillation.synset import Synset
from obdbench.errors import MissingExtraError, shorten, unknown_name
from obdbench.execution.events import FINAL_KINDS, Event
from obdbench.execution.progress import label_trial
from obdbench.experiments.spec import TrialSpec
from obdbench.results.store import ResultStore
from obdbench.results.synset_store import SynsetStore

PROJECT = "obdbench"
PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}

Picture = np.ndarray[Any, np.dtype[np.uint8]]

logger = logging.getLogger(__name__)


class TensorBoardLog:
    """Event files of TensorBoard, written by tensorboardX."""

    def __init__(self, spec: TrialSpec, store: ResultStore) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(store.folder / "tensorboard" / spec.key))
        self._writer.add_text("trial", label_trial(spec))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def log_picture(self, name: str, picture: Picture, step: int) -> None:
        self._writer.add_image(name, picture, step, dataformats="HWC")

    def finish(self, status: str) -> None:
        self._writer.add_text("status", status)
        self._writer.close()


class WandbLog:
    """A run of Weights & Biases in the group of the suite."""

    def __init__(self, spec: TrialSpec, store: ResultStore) -> None:
        import wandb

        self._image = wandb.Image
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=store.suite,
            name=label_trial(spec),
            config={"key": spec.key, **spec.model_dump(mode="json")},
            dir=str(store.folder),
            reinit="create_new",
        )

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._run.log(dict(metrics), step=step)

    def log_picture(self, name: str, picture: Picture, step: int) -> None:
        self._run.log({name: self._image(picture)}, step=step)

    def finish(self, status: str) -> None:
        self._run.summary["status"] = status
        self._run.finish(exit_code=0 if status == "ok" else 1)


class MlflowLog:
    """A run of MLflow in the experiment of the suite."""

    def __init__(self, spec: TrialSpec, store: ResultStore) -> None:
        from mlflow import MlflowClient

        address = os.environ.get("MLFLOW_TRACKING_URI")
        if address is None:
            # Newer versions ask for this where no database is used.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            address = (store.folder / "mlflow").as_uri()
        self._client = MlflowClient(address)
        name = f"{PROJECT}/{store.suite}"
        experiment = self._client.get_experiment_by_name(name)
        self._run_id = self._client.create_run(
            experiment.experiment_id if experiment else self._client.create_experiment(name),
            run_name=label_trial(spec),
            tags={"key": spec.key},
        ).info.run_id
        for field, value in spec.model_dump(mode="json").items():
            self._client.log_param(self._run_id, field, str(value)[:500])

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        for name, value in metrics.items():
            self._client.log_metric(self._run_id, name, value, step=step)

    def log_picture(self, name: str, picture: Picture, step: int) -> None:
        self._client.log_image(self._run_id, picture, key=name, step=step)

    def finish(self, status: str) -> None:
        self._client.set_tag(self._run_id, "status", status)
        ended = {"ok": "FINISHED", "interrupted": "KILLED"}.get(status, "FAILED")
        self._client.set_terminated(self._run_id, ended)


TrialLog = TensorBoardLog | WandbLog | MlflowLog  # the log of one trial
LOGGERS: dict[str, type[TrialLog]] = {
    "tensorboard": TensorBoardLog,
    "wandb": WandbLog,
    "mlflow": MlflowLog,
}


def check_loggers(names: Sequence[str]) -> None:
    """Raise an error for unknown loggers and for those whose package is missing."""
    for name in names:
        if name not in LOGGERS:
            raise unknown_name("experiment logger", name, LOGGERS)
        if find_spec(PACKAGES[name]) is None:
            raise MissingExtraError(f"Logging to {name}", name)


class ExperimentLogger:
    """Forwards the events of a run to one experiment logger; a context manager around the run.

    Logging never ends a run: after an error, the logger is switched off with a warning.
    """

    def __init__(self, name: str, specs: Sequence[TrialSpec], store: ResultStore) -> None:
        self.name, self.store = name, store
        self.specs = {spec.key: spec for spec in specs}
        self.logs: dict[str, TrialLog] = {}
        self.enabled = True

    def __enter__(self) -> ExperimentLogger:
        return self

    def __exit__(self, *exception: object) -> None:
        for key in list(self.logs):
            with suppress(Exception):  # logs that are still open after an error may be broken
                self._finish(key, "interrupted")

    def on_event(self, event: Event) -> None:
        """Log the numbers of an event."""
        if not self.enabled or event.key not in self.specs:
            return
        try:
            self._log(event)
        except Exception as error:  # servers and disks can raise almost any exception
            self.enabled = False
            reason = f"{type(error).__name__}: {shorten(error)}"
            logger.warning("Logging to %s stopped: %s", self.name, reason)

    def _log(self, event: Event) -> None:
        log = self.logs.get(event.key)
        if log is None:
            self.store.folder.mkdir(parents=True, exist_ok=True)
            log = LOGGERS[self.name](self.specs[event.key], self.store)
            self.logs[event.key] = log
        steps = self.specs[event.key].settings.steps
        if event.kind == "step" and event.loss is not None:
            log.log({"loss": event.loss}, event.step)
        elif event.kind == "score" and event.score is not None:
            log.log({"score": event.score}, event.step)
            if (picture := self._draw_synset(event)) is not None:
                log.log_picture("synset", picture, event.step)
        elif event.kind in FINAL_KINDS:
            if event.score is not None:
                log.log({"final_score": event.score}, steps)
            self._finish(event.key, event.kind)

    def _draw_synset(self, event: Event) -> Picture | None:
        """The picture of the synset of the first seed at an evaluation point."""
        spec = self.specs[event.key]
        path = SynsetStore(self.store, spec).synset_path(event.step, spec.seeds[0])
        return draw_synset(Synset.load(path)) if path.is_file() else None

    def _finish(self, key: str, status: str) -> None:
        self.logs.pop(key).finish(status)


def draw_synset(synset: Synset) -> Picture | None:
    """Distilled states in their two principal components, colored by the first action.

    Returns red, green and blue per pixel; None without matplotlib.
    """
    if find_spec("matplotlib") is None:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, 4.0), dpi=100, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    first, second = StateProjection.fit(synset.states).apply(synset.states).T
    points = axes.scatter(first, second, c=synset.actions[:, 0], s=14, cmap="cividis")
    figure.colorbar(points, label="first coordinate of the action")
    axes.set(xlabel="principal component 1", ylabel="principal component 2")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
