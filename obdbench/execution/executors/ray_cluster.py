"""Connects to Ray: a cluster of this process on this machine, or an existing one."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import platform
import signal
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from obdbench.errors import InvalidSettingError, MissingExtraError, ObdError, first_line
from obdbench.execution.config import ExecutionConfig
from obdbench.execution.executors.scratch import scratch_folder

try:
    import ray
    from ray import tune as tune
    from ray.exceptions import RayError, RayTaskError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise MissingExtraError("The Ray executor", "ray") from error

# Ray reads these settings from the environment only. They switch off telemetry, files that Tune
# writes about every report, and Tune's own Ctrl-C handler, which would end a run as if it had
# finished.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}
OBJECT_STORE_BYTES = 100 * 1024 * 1024
CONNECT_SECONDS = 20.0
PROBE_SECONDS = 120.0


@contextlib.contextmanager
def connect(config: ExecutionConfig) -> Iterator[tuple[Path, int]]:
    """Start Ray on this machine, or connect to the cluster at ``config.address``.

    Yields a temporary folder for Tune and the number of jobs that run at once: the whole cluster is
    used where ``config`` states no number. Ray's messages are discarded meanwhile: everything that
    a user needs to know reaches the progress display as an event, or is logged by this package.
    """
    if ray.is_initialized():  # of the caller: it must not be shut down at the end
        raise ObdError(
            "This process is already connected to Ray.",
            "Call ray.shutdown() first, or run obdbench in another process.",
        )
    workers = config.ray_workers()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        stack.enter_context(discard_output())
        stack.callback(ray.shutdown)
        sigterm_handler = signal.getsignal(signal.SIGTERM)
        try:
            _initialize_ray(config.address, (workers or 1) * config.threads, folder)
        except SystemExit as error:  # raised by Ray's own handler of SIGTERM
            raise KeyboardInterrupt from error
        finally:
            with contextlib.suppress(ValueError):  # outside the main thread Ray sets no handler
                signal.signal(signal.SIGTERM, sigterm_handler)
        yield folder, workers or count_workers(config)


@contextlib.contextmanager
def discard_output() -> Iterator[None]:
    """Discard what is printed, but not what this package logs."""
    handler, package = logging.StreamHandler(), logging.getLogger("obdbench")
    with contextlib.ExitStack() as stack:
        if not package.hasHandlers():  # the default handler would write to the redirected stream
            package.addHandler(handler)
            stack.callback(package.removeHandler, handler)
        null = stack.enter_context(open(os.devnull, "w"))
        stack.enter_context(contextlib.redirect_stdout(null))
        stack.enter_context(contextlib.redirect_stderr(null))
        yield


def _initialize_ray(address: str | None, cpus: int, folder: Path) -> None:
    options: dict[str, Any] = {"logging_level": logging.CRITICAL, "log_to_driver": False}
    problem = f"No Ray cluster answers at {address!r}"
    remedy = "Start one with `ray start --head`, or omit --address."
    if address is None:
        options |= {"num_cpus": cpus, "include_dashboard": False, "_temp_dir": str(folder)}
        options |= {"object_store_memory": OBJECT_STORE_BYTES}
        options |= {"_system_config": {"worker_niceness": 0}}
        problem = "Ray did not start"
        remedy = (
            "The machine may be too busy: try again, or use --executor local "
            "(with make: EXECUTOR=local)."
        )
    try:
        if address is not None:
            check_listener(address)
        ray.init(address=address or "local", **options)
    except InvalidSettingError:
        raise
    except Exception as error:
        reason = first_line(error) or type(error).__name__
        raise ObdError(f"{problem}: {reason.rstrip('.')}.", remedy) from error


def check_listener(address: str) -> None:
    """Fail at once if nothing listens at ``host:port``; Ray itself would try for minutes."""
    if address.startswith("ray://"):
        raise InvalidSettingError(
            f"{address!r} is an address of Ray Client, which passes no events on.",
            "Start the run on a node of the cluster with `ray job submit`, and use auto there.",
        )
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()


def count_workers(config: ExecutionConfig) -> int:
    """Number of jobs that the cluster runs at once: two per GPU; on CPU, ``cores // threads``."""
    resources = ray.cluster_resources()
    if config.device.startswith("cuda"):
        return max(1, 2 * int(resources.get("GPU", 0)))
    return max(1, int(resources.get("CPU", 1)) // config.threads)


def job_resources(config: ExecutionConfig, workers: int) -> dict[str, float]:
    """Resources that a job declares to Ray: its torch threads, and an equal part of the GPUs."""
    resources: dict[str, float] = {"cpu": config.threads}
    if config.device.startswith("cuda"):
        gpus = ray.cluster_resources().get("GPU", 0.0)
        if gpus == 0:
            raise ObdError("Ray sees no GPU.", "Use --device cpu.")
        resources["gpu"] = min(1.0, 1 / math.ceil(workers / gpus))  # each share is on one GPU
    return resources


class RunCallback(tune.Callback):  # type: ignore[misc]
    """Base class of the callbacks by which the driver follows a run of Tune."""

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves its callbacks with its settings; nothing is restored from that file."""
        return {}


def run_tuner(
    trainable: Callable[..., None],
    grid: dict[str, list[Any]],
    *,
    name: str,
    folder: Path,
    config: ExecutionConfig,
    workers: int,
    callback: RunCallback,
    max_failures: int,
    scheduler: Any = None,
) -> tune.ResultGrid:
    """Run a function once per value of the grid; it starts again if its process is lost."""
    space = {parameter: tune.grid_search(values) for parameter, values in grid.items()}
    return tune.Tuner(
        tune.with_resources(trainable, job_resources(config, workers)),
        param_space={**space, "working_folder": os.getcwd()},
        tune_config=tune.TuneConfig(
            scheduler=scheduler, reuse_actors=True, max_concurrent_trials=workers
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(folder / "tune"),
            verbose=0,
            callbacks=[callback],
            failure_config=tune.FailureConfig(max_failures=max_failures),
        ),
    ).fit()


@contextlib.contextmanager
def storage_token(folder: Path) -> Iterator[Path]:
    """A file with a unique name, by which a node recognizes the results folder of the driver."""
    folder.mkdir(parents=True, exist_ok=True)
    token = folder / f"token-{uuid.uuid4().hex}"
    token.touch()
    try:
        yield token
    finally:
        with contextlib.suppress(OSError):
            token.unlink()


def check_shared_storage(token: Path) -> None:
    """Raise an error if a node that runs jobs does not see the results folder."""
    probe = ray.remote(num_cpus=0)(check_storage)
    tasks = [
        probe.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(token)
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU", 0) > 0
    ]
    completed, _ = ray.wait(tasks, num_returns=len(tasks), timeout=PROBE_SECONDS)
    for task in completed:
        try:
            ray.get(task)
        except RayTaskError as error:
            raise error.cause from None
        except RayError:  # the node is lost and runs no job
            continue


def check_storage(token: Path) -> None:
    """Raise an error if a node does not see the token file of the driver."""
    if not token.exists():
        raise ObdError(
            f"The node {platform.node()} does not see the results folder {token.parents[2]}.",
            "Give --out a folder on storage that all nodes share.",
        )


def enter_working_folder(folder: str) -> None:
    """Resolve relative paths as the driver does, if this node has the driver's working folder."""
    with contextlib.suppress(OSError):
        os.chdir(folder)
