"""The worker process of the local executor.

Started as ``python -m obdbench.execution.executors.local_worker FD PARENT``: a fresh interpreter
that does not import the main module of its parent, so that a script or a notebook may start a run
without a ``__main__`` guard.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection

from obdbench.errors import ObdError
from obdbench.execution.config import ExecutionConfig
from obdbench.execution.events import Event
from obdbench.execution.job import Job, run_job


def serve_jobs(pipe: Connection[object, object], parent: int) -> None:
    """Run the jobs that come through the pipe until it closes."""
    threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()
    config = pipe.recv()
    assert isinstance(config, ExecutionConfig)

    def send(message: object) -> None:
        try:
            pipe.send(message)
        except OSError:  # the parent process ended; this is not a failure of the trial
            os._exit(1)

    while True:
        job = pipe.recv()
        if not isinstance(job, Job):
            return
        try:
            run_job(job, config, send)
        except ObdError as error:  # no trial can be run here
            send(Event("fatal", message=str(error)))
            return
        send(job.distill_key)


def _exit_with_parent(parent: int) -> None:
    """Exit once the parent process has ended, however it ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main() -> None:
    """Serve the pipe whose file descriptor is the first argument."""
    try:
        serve_jobs(Connection(int(sys.argv[1])), int(sys.argv[2]))
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        os._exit(1)
    except BaseException:  # the usual end would wait for threads
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    main()
