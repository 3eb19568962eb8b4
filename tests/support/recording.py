"""Records attempts of reliability tests; ``docs/reliability.md`` is made from the records.

Mark a test with what is tried, how, and the outcome that its assertions check::

    @pytest.mark.reliability(
        "input",  # or "fault"
        "TOML suites",
        injection="hypothesis: arbitrary text and mutated valid files",
        outcome="one ObdError, or a valid suite",
    )
    def test_...(attempts):

A test counts as one attempt, unless it uses the fixture ``attempts`` and counts by itself: each
``with attempts:`` block is an attempt, which succeeds if nothing is raised in it. Setting
``attempts.outcome`` replaces the outcome of the marker by a measured one. Tests with the same
name and injection become one row; ``record_property("name", ...)`` moves a test to another row.
Under hypothesis, use the fixture in the test and suppress ``HealthCheck.function_scoped_fixture``.

``pytest --reliability PATH`` writes the records as JSON and keeps those of tests that did not run.
A failed or skipped test is recorded with its reason. After marking a test,
``make reliability ARGS=tests/its/file.py`` adds it to ``docs/reliability.md``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

KINDS = ("fault", "input")
NOTED = "reliability"
ENTRIES = pytest.StashKey[dict[str, dict[str, Any]]]()
MARKED = pytest.StashKey[list[str]]()  # every marked test that was collected, run or not


class AttemptCounter:
    """Counts the attempts of one test."""

    def __init__(self) -> None:
        self.attempted = 0
        self.passed = 0
        self.outcome = ""

    def __enter__(self) -> AttemptCounter:
        self.attempted += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.passed += kind is None


@pytest.fixture
def attempts(request: pytest.FixtureRequest) -> Iterator[AttemptCounter]:
    """Attempts of this test: ``with attempts: ...`` around each."""
    counted = AttemptCounter()
    yield counted
    if counted.attempted:
        counts = [("attempts", counted.attempted), ("passed", counted.passed)]
        request.node.user_properties += counts
    if counted.outcome:
        request.node.user_properties.append(("outcome", counted.outcome))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reliability", metavar="PATH", help="write what reliability tests noted")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "reliability(kind, name, injection, outcome): see recording.py"
    )
    config.stash[ENTRIES], config.stash[MARKED] = {}, []
    config.pluginmanager.register(_Recorder(config), "reliability-recorder")


def noted(item: pytest.Item) -> dict[str, Any] | None:
    """What the marker of a test says."""
    marker = item.get_closest_marker(NOTED)
    if marker is None:
        return None
    return _checked(*marker.args, **marker.kwargs)


def _checked(kind: str, name: str, *, injection: str, outcome: str) -> dict[str, Any]:
    if kind not in KINDS:
        raise pytest.UsageError(f"reliability({kind!r}, ...): the kind is one of {KINDS}")
    return {"kind": kind, "name": name, "injection": injection, "outcome": outcome}


@pytest.hookimpl(tryfirst=True)  # before slow ones and others are deselected
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if (entry := noted(item)) is not None:
            item.user_properties.append((NOTED, entry))
            config.stash[MARKED].append(item.nodeid)


class _Recorder:
    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties = dict(report.user_properties)
        if NOTED not in properties:
            return
        entries = self.config.stash[ENTRIES]
        entry = entries.setdefault(report.nodeid, {"status": "passed", "seconds": 0.0})
        entry.update(properties[NOTED])
        entry["seconds"] = round(entry["seconds"] + report.duration, 1)
        entry["date"] = datetime.now(UTC).date().isoformat()
        if report.failed:
            entry["status"], entry["reason"] = "failed", _reason(report)
        elif report.skipped and entry["status"] == "passed":
            entry["status"], entry["reason"] = "skipped", _reason(report)
        entry.update({k: v for k, v in properties.items() if k in ("name", "outcome")})
        ran, passed = entry["status"] != "skipped", entry["status"] == "passed"
        entry["attempts"] = properties.get("attempts", int(ran))
        entry["passed"] = properties.get("passed", int(passed))

        if report.when == "teardown":
            self.write()

    def write(self) -> None:
        """After every test, so that an interrupted session loses nothing."""
        where = self.config.getoption("--reliability")
        if where and not hasattr(self.config, "workerinput"):  # the controller writes, under xdist
            path = Path(where)
            before = json.loads(path.read_text())["tests"] if path.exists() else {}
            content = {"tests": dict(sorted({**before, **self.config.stash[ENTRIES]}.items()))}
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _reason(report: pytest.TestReport) -> str:
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr)
    return text.strip().splitlines()[0][:200]
