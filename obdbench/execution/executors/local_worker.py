"""A worker process of the local executor: ``python -m obdbench.execution.executors.local_worker FD``.

It is a fresh interpreter, not a fork, and does not import the driver's main module, so that a
script or a notebook may start a run without any guard.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from multiprocessing.connection import Connection

from obdbench.errors import ObdError
from obdbench.execution.events import Event, Throttle
from obdbench.execution.job import Job, Setup, run_job

STEP_SECONDS = 0.2


def serve(pipe: Connection[object, object], parent: int) -> None:
    """Run the jobs that come through the pipe until it closes."""
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    setup = pipe.recv()
    assert isinstance(setup, Setup)

    def send(message: object) -> None:
        try:
            pipe.send(message)
        except OSError:  # the driver is gone: this is no fault of the trial
            os._exit(1)

    emit = Throttle(send, STEP_SECONDS)
    while True:
        job = pipe.recv()
        if not isinstance(job, Job):
            return
        try:
            run_job(job, setup, emit)
        except ObdError as error:  # no trial can be run here
            send(Event("fatal", message=str(error)))
            return
        send(job.name)


def _follow(parent: int) -> None:
    """Do not outlive the driver, however it ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main() -> None:
    """Entry point."""
    try:
        serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        os._exit(1)


if __name__ == "__main__":
    main()
