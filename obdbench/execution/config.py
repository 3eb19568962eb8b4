"""Execution settings: device, workers, limits and output folder."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from numbers import Real
from pathlib import Path
from typing import Any, Literal, get_args

from obdbench.errors import InvalidSettingError, MissingExtraError, unknown_name
from obdbench.plugins import Plugin
from obdbench.results.record import MAX_WORD_LENGTH

EXECUTORS = ("local", "ray")
ExistingResults = Literal["refuse", "resume", "fresh"]
NUMBER_TYPES: dict[str, Any] = {
    "workers": int | None,
    "threads": int,
    "memory": Real,
    "timeout": Real | None,
    "snapshot_seconds": Real,
    "grace": Real,
}


def _current_import_paths() -> tuple[str, ...]:
    return tuple(str(Path(entry or ".").resolve()) for entry in sys.path)


@dataclass(frozen=True)
class ExecutionConfig:
    """Execution settings; passed on whole to planning, executors, workers and trials.

    Args:
        out: Folder of results; one folder per suite is created in it.
        executor: ``local`` (processes on this machine) or ``ray`` (Ray Tune).
        address: Address of an existing Ray cluster.
        workers: Jobs that run at the same time; see :meth:`local_workers` for the default.
        threads: Torch threads per trial.
        memory: GiB that the inner loop of one trial may keep.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        timeout: Seconds that one trial may take.
        grace: Seconds beyond ``timeout`` after which the process of a hanging trial is ended.
        existing: What to do with results that exist already: refuse to run, run only the missing
            trials, or run all trials again.
        retry_failed: With ``existing="resume"``, run failed and timed-out trials again.
        fail_fast: End the run at the first trial that fails or times out.
        snapshot_seconds: Seconds between two snapshots of an unfinished distillation.
        loggers: Experiment loggers: ``tensorboard``, ``wandb``, ``mlflow``.
        plugins: User code that registers objectives, datasets, protocols or architectures.
        command: Words of the command line that asked for the run; stored in the manifest.
        import_paths: Import path of the process that starts the run; workers use it as well.
    """

    out: Path = Path("results")
    executor: str = "local"
    address: str | None = None
    workers: int | None = None
    threads: int = 1
    memory: float = 2.0
    device: str = "cpu"
    timeout: float | None = None
    grace: float = 15.0
    existing: ExistingResults = "refuse"
    retry_failed: bool = False
    fail_fast: bool = False
    snapshot_seconds: float = 60.0
    loggers: tuple[str, ...] = ()
    plugins: tuple[Plugin, ...] = ()
    command: tuple[str, ...] = ()
    import_paths: tuple[str, ...] = field(default_factory=_current_import_paths)

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise unknown_name("executor", self.executor, EXECUTORS)
        if self.existing not in get_args(ExistingResults):
            raise InvalidSettingError(
                f"existing is {self.existing!r}.", "Use refuse, resume or fresh."
            )
        self._check_numbers()
        for word in self.command:
            if len(word) > MAX_WORD_LENGTH or word.encode(errors="ignore").decode() != word:
                raise InvalidSettingError(
                    f"An argument is not valid text of at most {MAX_WORD_LENGTH} characters.",
                    "Correct or shorten it.",
                )
        if self.executor == "ray" and find_spec("ray") is None:
            raise MissingExtraError("The Ray executor", "ray")
        if self.address and self.executor != "ray":
            raise InvalidSettingError(
                "--address is for Ray only.", "Add --executor ray, or omit --address."
            )
        if self.executor == "ray" and ":" in self.device:
            raise InvalidSettingError(
                f"{self.device} cannot be used with Ray, which assigns GPUs to trials itself.",
                "Use --device cuda, and choose GPUs with CUDA_VISIBLE_DEVICES.",
            )

    def _check_numbers(self) -> None:
        for name, number_type in NUMBER_TYPES.items():
            value = getattr(self, name)
            if not isinstance(value, number_type):
                noun = "whole number" if name in ("workers", "threads") else "number"
                raise InvalidSettingError(f"{name} is {value!r}.", f"It must be a {noun}.")
            if name != "grace" and value is not None and not value > 0:
                raise InvalidSettingError(f"{name} is {value}.", "It must be positive.")
        if not self.grace >= 0:
            raise InvalidSettingError(f"grace is {self.grace}.", "It must not be negative.")

    @property
    def memory_bytes(self) -> int:
        """``memory`` in bytes."""
        return round(self.memory * 2**30)

    def local_workers(self) -> int:
        """Return ``workers``, or two workers per GPU; on CPU, ``cores // threads``.

        Seeds are batched, so a few trials fill a GPU; with two, one scores while one distills.
        """
        if self.workers:
            return self.workers
        if self.device.startswith("cuda"):
            import torch

            return 2 * (torch.cuda.device_count() if self.device == "cuda" else 1)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return max(1, (cores or 1) // self.threads)

    def ray_workers(self) -> int | None:
        """Return the number of workers on Ray; None means as many as the cluster can run."""
        return self.workers if self.address else self.local_workers()


def without_folders(word: str) -> str:
    """Shorten absolute paths in a word, because the command is published with the results.

    A path may follow ``=`` or ``file:``, as in ``--teacher=file:/data/hopper.npz=/data/sac.zip``.
    """
    return re.sub(r"(^|=|file:)/[^=#]+", lambda m: m[1] + Path(m[0].removeprefix(m[1])).name, word)
