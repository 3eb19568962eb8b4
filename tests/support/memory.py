"""Memory and processor time of a run and all its processes, watched from outside."""

import os
import threading
import time
from pathlib import Path

from support.processes import list_descendants

TICKS = os.sysconf("SC_CLK_TCK")


def used_bytes(pid):
    """Bytes of a process, shared pages by halves (PSS); what is not shared where unreadable."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return 1024 * next(
            int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")
        )
    except (OSError, StopIteration):
        pass
    try:
        _, resident, shared = map(int, Path(f"/proc/{pid}/statm").read_text().split()[:3])
        return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def used_cpu_seconds(pid):
    """Processor seconds of a process so far, without its children."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:13])) / TICKS
    except (OSError, IndexError):
        return 0.0


class ResourceWatch:
    """Within the context: the largest sum over a process and those below it."""

    def __init__(self, pid, seconds=1.0):
        self.pid, self.seconds = pid, seconds
        self.peak = 0
        self.parts = {}  # at the peak: bytes of the driver, the workers and Ray's own processes
        self.processor = {}  # by process: seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._ended.set()
        self._thread.join()

    @property
    def used_cpu_seconds(self):
        """Processor seconds of all processes seen, up to the last look at each."""
        return sum(self.processor.values())

    def _follow(self):
        while not self._ended.is_set():
            began = time.monotonic()
            self.look()
            self._ended.wait(max(0.1, self.seconds - (time.monotonic() - began)))

    def look(self):
        """One look at all processes."""
        parts = {}
        for pid, line in [(self.pid, "driver"), *list_descendants(self.pid)]:
            role = role_of(line)
            parts[role] = parts.get(role, 0) + used_bytes(pid)
            self.processor[pid] = max(self.processor.get(pid, 0.0), used_cpu_seconds(pid))
        if sum(parts.values()) > self.peak:
            self.peak, self.parts = sum(parts.values()), parts


def role_of(line):
    """Which part of a run a command line belongs to."""
    if line == "driver":
        return "driver"
    if "obdbench.execution.executors.local_worker" in line or ("ray::" in line and not _own(line)):
        return "workers"
    return "Ray"


def _own(line):
    return any(name in line for name in ("IDLE", "Agent"))
