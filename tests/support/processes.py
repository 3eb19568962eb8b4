"""Runs as users start them, in processes of their own, and what becomes of those processes."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from support.paths import ROOT


def run_environment(temporary=None):
    """The environment of a run, with a separate temporary folder if one is given."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return environment if temporary is None else {**environment, "TMPDIR": str(temporary)}


def start_obdbench(*arguments, log, temporary=None):
    """``obdbench ARGUMENTS`` in the background, its output appended to a file."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "obdbench", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=log.parent,
            env=run_environment(temporary),
        )


def call_obdbench(*arguments, cwd, temporary=None, timeout=600):
    """``obdbench ARGUMENTS`` to its end: exit code, output, errors."""
    done = subprocess.run(
        [sys.executable, "-m", "obdbench", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=run_environment(temporary),
        timeout=timeout,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@contextmanager
def short_folder():
    """A temporary folder whose name is short enough for Ray's sockets below it."""
    folder = Path(tempfile.mkdtemp(prefix="o", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def list_processes():
    """Every process: (pid, command line)."""
    return [(pid, line) for pid, _, line in _listing()]


def list_descendants(pid):
    """Processes below one: (pid, command line)."""
    rows = _listing()
    descendants, front = [], {pid}
    while front:
        below = [row for row in rows if row[1] in front]
        descendants += below
        front = {row[0] for row in below}
    return [(child, line) for child, _, line in descendants]


def _listing():
    listing = subprocess.run(
        ["ps", "-ww", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[1:]
    return [(int(line.split()[0]), int(line.split()[1]), line) for line in listing]


def wait_until_ended(pids, seconds=120):
    """Wait until processes have ended, also on a busy machine; those that live on."""
    deadline = time.monotonic() + seconds
    running = set(pids)
    while running and time.monotonic() < deadline:
        running = {pid for pid in running if Path(f"/proc/{pid}").exists() and not is_zombie(pid)}
        time.sleep(0.1)
    return running


def is_zombie(pid):
    """Whether a process has ended and only its entry is left."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True
