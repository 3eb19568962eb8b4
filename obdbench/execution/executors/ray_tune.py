"""The Ray executor: every job is a Ray Tune trial, on this machine or on a cluster.

Ray decides where a job runs and starts it again when its process or node dies; what a trial is,
what it leaves behind and what is still missing is decided by its spec and the store alone. Ray's
trial ids appear nowhere.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_WARN_THRESHOLD_S": "3600",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "3600",
}
os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})

try:
    import ray
    from ray import tune as tune
    from ray.tune.progress_reporter import TrialProgressCallback as TrialProgressCallback
except ImportError as error:
    from obdbench.errors import MissingExtraError

    raise MissingExtraError("The Ray executor", "ray") from error

from obdbench.errors import ObdError  # noqa: E402
from obdbench.execution.events import Event, Throttle  # noqa: E402
from obdbench.execution.executors.local import Audience  # noqa: E402
from obdbench.execution.executors.ray_driver import Desk  # noqa: E402
from obdbench.execution.executors.ray_mailbox import Courier, Mailbox, Parcel, load_files  # noqa: E402
from obdbench.execution.executors.ray_utils import knock, refuse_index, settle  # noqa: E402
from obdbench.execution.executors.scratch import DRIVER, NODE, scratch  # noqa: E402
from obdbench.execution.job import MAX_DEATHS, Job, Setup, group, run_job  # noqa: E402

OBJECT_STORE = 100 * 1024 * 1024
STEP_SECONDS = 1.0
# how long Ray's agents look for a driver that was killed before they end as well; Ray waits 60 s
RECONNECT, RECONNECT_SECONDS = "RAY_gcs_rpc_server_reconnect_timeout_s", "15"
Post = Callable[[list[Event], list[Parcel]], None]


class StoppedError(Exception):
    """Raised inside Tune's loop to end it."""


def execute(
    jobs: Sequence[Job],
    setup: Setup,
    audience: Audience,
    *,
    workers: int | None,
    address: str | None = None,
    fail_fast: bool = False,
) -> None:
    """Run jobs as Ray Tune trials; raises on interrupts, full disks and fail-fast.

    Without ``workers`` the whole cluster is used.
    """
    refuse_index(setup.device)
    store = setup.store()
    token = store.work / f"token-{uuid.uuid4().hex}"
    token.parent.mkdir(parents=True, exist_ok=True)
    token.touch()
    try:
        with cluster(address, (workers or 1) * setup.threads) as folder:
            workers = workers or capacity(setup)
            left = list(jobs)
            while left:
                left = _round(left, setup, audience, workers, address, fail_fast, token, folder)
    finally:
        token.unlink(missing_ok=True)


def _round(
    jobs: list[Job],
    setup: Setup,
    audience: Audience,
    workers: int,
    address: str | None,
    fail_fast: bool,
    token: Path,
    folder: Path,
) -> list[Job]:
    """Hand all jobs to Tune once; returns what has to be handed out again."""
    store = setup.store()
    node = ray.get_runtime_context().get_node_id()
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
    files = load_files(store, jobs) if address else {}
    mailbox = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote(files)
    by_name = {job.name: job for job in jobs}
    desk = Desk(
        take=lambda: ray.get(mailbox.take.remote()),
        halt=lambda: ray.get(mailbox.stop.remote()),
        store=store,
        audience=audience,
        fail_fast=fail_fast,
        jobs=by_name,
    )
    trainable = tune.with_resources(
        tune.with_parameters(work, jobs=by_name, setup=setup, mailbox=mailbox, token=str(token)),
        resources(setup, workers),
    )
    tuner = tune.Tuner(
        trainable,
        param_space={"job": tune.grid_search(list(by_name)), "home": os.getcwd()},
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=workers),
        run_config=tune.RunConfig(
            name=setup.suite,
            storage_path=str(folder / "tune"),
            verbose=0,
            callbacks=[News(mailbox)],
            failure_config=tune.FailureConfig(max_failures=MAX_DEATHS - 1),
        ),
    )
    failure: Exception | None = None
    try:
        with desk:
            tuner.fit()
    except Exception as error:
        failure = error
    desk.settle(failure)
    ray.kill(mailbox)
    return group(spec for job in jobs for spec in store.missing(job.specs))


def work(
    config: dict[str, Any], *, jobs: dict[str, Job], setup: Setup, mailbox: Any, token: str
) -> None:
    """What a Ray worker does with a job."""
    settle(config["home"])
    name = config["job"]
    job = jobs[name]

    def post(events: list[Event], parcels: list[Parcel]) -> None:
        try:
            ray.get(mailbox.post.remote(name, events, parcels))
        except ray.exceptions.RayError:  # the driver is gone: this is no fault of the trial
            os._exit(1)

    try:
        if Path(token).exists():
            run_job(job, setup, Throttle(lambda event: post([event], []), STEP_SECONDS))
        else:
            _run_apart(job, setup, post, lambda: ray.get(mailbox.held.remote(name)))
    except ObdError as error:  # no trial can be run here
        post([Event("fatal", message=str(error))], [])


def _run_apart(job: Job, setup: Setup, post: Post, held: Callable[[], dict[str, bytes]]) -> None:
    """Run a job in a folder of this node's own, and send a copy of what it writes."""
    with scratch(NODE) as root:
        here = replace(setup, root=str(root))
        store = here.store()
        store.prepare()
        courier = Courier(store, job, post)
        courier.unpack(held())
        run_job(job, here, Throttle(lambda event: courier.send([event]), STEP_SECONDS))
        courier.send([])


def capacity(setup: Setup) -> int:
    """How many jobs a cluster runs at once: two a GPU, else one for each share of its cores."""
    held = ray.cluster_resources()
    if setup.device.startswith("cuda"):
        return max(1, 2 * int(held.get("GPU", 0)))
    return max(1, int(held.get("CPU", 1)) // setup.threads)


def resources(setup: Setup, workers: int) -> dict[str, float]:
    """A job's share: its torch threads, and an equal part of the GPUs."""
    share: dict[str, float] = {"cpu": setup.threads}
    if setup.device.startswith("cuda"):
        gpus = ray.cluster_resources().get("GPU", 0.0)
        if gpus == 0:
            raise ObdError("Ray sees no GPU.", "Use --device cpu.")
        share["gpu"] = min(1.0, gpus / workers)
    return share


class News(TrialProgressCallback):  # type: ignore[misc]
    """Takes the place of Tune's own display: tells ours what only Tune knows.

    That is when it starts a trial again or gives it up; everything else comes from the worker. It
    also ends Tune's loop where the driver asks for it.
    """

    def __init__(self, mailbox: Any) -> None:
        super().__init__()
        self.mailbox = mailbox

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any
    ) -> None:
        """Nothing that the worker did not say itself."""

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Its process or node died; Tune starts it again."""
        self._post(trial, "restart")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """It died too often."""
        self._post(trial, "note")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Its files need not be kept for another worker."""
        self.mailbox.close.remote(trial.config["job"])

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """End the run where the driver asks for it."""
        if ray.get(self.mailbox.stopped.remote()):
            raise StoppedError

    def _post(self, trial: Any, kind: Any) -> None:
        event = Event(kind, f"job:{trial.config['job']}", message="its process or node was lost")
        ray.get(self.mailbox.post.remote(trial.config["job"], [event], []))


@contextlib.contextmanager
def cluster(address: str | None, cpus: int) -> Iterator[Path]:
    """A Ray of one's own, or a connection; yields a scratch folder, removed with it."""
    hush()
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    remedy = "Start one with `ray start --head`, or leave --address out."
    with scratch(DRIVER) as folder, contextlib.ExitStack() as afterwards:
        if address is None:
            options |= {"num_cpus": cpus, "include_dashboard": False, "_temp_dir": str(folder)}
            options |= {"object_store_memory": OBJECT_STORE}
            remedy = "The machine may be too busy: try again, or use --executor local."
            if RECONNECT not in os.environ:
                os.environ[RECONNECT] = RECONNECT_SECONDS
                afterwards.callback(os.environ.pop, RECONNECT)
        afterwards.callback(ray.shutdown)
        heeded = signal.getsignal(signal.SIGTERM)
        try:
            knock(address)
            ray.init(address=address or "local", **options)
        except Exception as error:
            said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise ObdError(
                f"No Ray cluster answers at {address!r}: {said}."
                if address
                else f"Ray did not start: {said}.",
                remedy,
            ) from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, heeded)  # Ray's own handler aborts
        yield folder


def hush() -> None:
    """Keep Ray from printing the raylet's remarks into the display; it has no switch for that."""
    from ray._private import worker

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *args, **kwargs: None
