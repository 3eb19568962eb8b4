"""Toy trials: no environment, no teacher, milliseconds each."""

from collections.abc import Iterator

import pytest
from support.in_process import select_executor
from support.toy_suite import SETTINGS, TOY

import obdbench
from obdbench.distillation.settings import DistillSettings
from obdbench.execution import run as execution
from obdbench.experiments.spec import TrialSpec
from obdbench.experiments.suite import Suite
from obdbench.plugins import Plugin
from obdbench.registry import solvers, state_sources
from obdbench.results.store import ResultStore


@pytest.fixture(scope="session")
def plugin() -> Plugin:
    loaded = Plugin.read(TOY)
    loaded.load()
    return loaded


@pytest.fixture
def store(tmp_path) -> ResultStore:
    result_store = ResultStore(tmp_path / "results", "toy")
    result_store.prepare()
    return result_store


@pytest.fixture
def spec(plugin):
    def make(objective="student", protocol="toy", seeds=(0, 1), params=None, **settings):
        return TrialSpec(
            dataset="toy/hopper-toy-v0",
            objective=objective,
            objective_params=params or {},
            protocol=protocol,
            settings=DistillSettings(**{**SETTINGS, **settings}),
            seeds=seeds,
        )

    return make


@pytest.fixture
def toy_suite(plugin):
    def make(*objectives, name="toy", protocols=("toy",), **settings):
        return Suite(
            name=name,
            datasets=("toy/hopper-toy-v0",),
            objectives=list(objectives),
            protocols=list(protocols),
            seeds=(0, 1),
            settings={**SETTINGS, **settings},
        )

    return make


@pytest.fixture
def user_components() -> Iterator[None]:
    """A solver and a state source of a user, both under the name ``mine``."""

    @obdbench.register_solver("mine")
    class Mine(obdbench.Solver):
        """A solver of a user."""

    @obdbench.register_state_source("mine")
    class MyStates(obdbench.StateSource):
        """A state source of a user."""

    yield
    solvers.unregister("mine")
    state_sources.unregister("mine")


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs start no worker processes, which import torch for seconds."""
    monkeypatch.setattr(execution, "get_executor", select_executor)
