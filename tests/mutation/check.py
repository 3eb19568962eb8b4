"""Plant every fault of ``faults.py``, one at a time, and see whether the tests catch it.

``python tests/mutation/check.py [FILE ...]`` works in a temporary copy of the tree and prints a
table; it ends with 1 if a fault goes uncaught. A fault is caught when a test fails, or when the
tests are still running after ten minutes of processor time. The copy without a fault must pass.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults import TARGETS

ROOT = Path(__file__).parents[2]
PROCESSOR_SECONDS = 600
OPTIONS = ("-x", "-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov")
HEAVY = ("torch", "torch.func", "numpy", "scipy.stats", "hypothesis", "pydantic", "pytest")


@dataclass(frozen=True)
class Verdict:
    """What became of one fault."""

    caught: bool
    by: str


def main(wanted: Sequence[str]) -> int:
    """Check the named files, or all; returns how many faults went uncaught."""
    for name in HEAVY:  # once; every check is a fork of this process
        __import__(name)
    unknown = set(wanted) - set(TARGETS)
    if unknown:
        sys.exit(f"No faults are listed for {', '.join(unknown)}. Known: {', '.join(TARGETS)}.")
    missed = 0
    with copied() as tree:
        for target in wanted or TARGETS:
            faults, tests = TARGETS[target]
            sound = (tree / target).read_text()
            verdict = tried(tree, tests)
            if verdict.caught:
                sys.exit(f"The tests of {target} fail without a fault: {verdict.by}.")
            print(f"\n| fault in {target} | instead | caught by |\n| :-- | :-- | :-- |", flush=True)
            for old, new in faults:
                (tree / target).write_text(planted(sound, old, new, target))
                verdict = tried(tree, tests)
                missed += not verdict.caught
                shown = (f"`{' '.join(text.split()) or 'nothing'}`" for text in (old, new))
                print(f"| {' | '.join(shown)} | {verdict.by} |".replace("||", "\\|"), flush=True)
            (tree / target).write_text(sound)
            print(f"\n{len(faults)} faults planted in {target}.", flush=True)
    print(f"{missed} went uncaught.")
    return missed


def planted(sound: str, old: str, new: str, target: str) -> str:
    """The source with a fault; a text that is not there exactly once is an outdated list."""
    if sound.count(old) != 1:
        sys.exit(f"{target} holds {sound.count(old)} times {old!r}: bring faults.py up to date.")
    return sound.replace(old, new)


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of package and tests, without data."""
    with tempfile.TemporaryDirectory(prefix="obdbench-mutation-") as folder:
        tree = Path(folder)
        ignore = shutil.ignore_patterns("__pycache__", "*.npz", "*.safetensors")
        for name in ("obdbench", "tests"):
            shutil.copytree(ROOT / name, tree / name, ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", tree)
        yield tree


def tried(tree: Path, tests: Sequence[str]) -> Verdict:
    """Run the tests in a fork, which ends with the first that fails."""
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(source)
        _run(tree, tests, sink)
    os.close(sink)
    with os.fdopen(source) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return Verdict(True, f"signal {-code}: too slow, or a crash")
    if code not in (0, 1, 2):
        sys.exit(f"pytest ended with {code} in {tree}: {said}")
    return Verdict(code != 0, said or ("nothing" if code == 0 else "an error at import"))


def _run(tree: Path, tests: Sequence[str], sink: int) -> None:
    """The child: never returns."""
    import pytest

    class FirstFailure:
        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.failed:
                os.write(sink, report.nodeid.rpartition("/")[2].encode())

    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_SECONDS, PROCESSOR_SECONDS))
    os.chdir(tree)
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.dont_write_bytecode = True  # a stale one would hide the next fault
    here = {str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)}
    sys.path[:] = [str(tree), *(entry for entry in sys.path if entry not in here)]
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    code = pytest.main([*OPTIONS, *tests], plugins=[FirstFailure()])
    os._exit(int(code))


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
