"""Code outside obdbench enters a trial's key, and nothing else changes the key of its synsets."""

import linecache
import sys
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import pytest
from support.paths import ROOT

from obdbench.distillation.settings import DistillSettings
from obdbench.experiments.fingerprint import hash_source
from obdbench.experiments.spec import TrialSpec
from obdbench.experiments.suite import Suite
from obdbench.objectives.dbc import DBC
from obdbench.objectives.objective import make_objective
from obdbench.plugins import Plugin
from obdbench.policies.networks import Architecture
from obdbench.registry import Registry, architectures, objectives, protocols, selections

PROTOCOL = """
from obdbench import register_protocol
from obdbench.evaluation.protocol import Default


@register_protocol("patient")
class Patient(Default):
    name = "patient"
    extra_steps = 5
"""


def fingerprint_of(
    objective="pbc", protocol="default", dataset="embedded/hopper-medium-v1", **settings
):
    spec = TrialSpec(
        objective=objective,
        protocol=protocol,
        dataset=dataset,
        settings=DistillSettings(**settings),
    )
    return spec.fingerprint_code()


@pytest.fixture
def load_suite_with(tmp_path):
    """Load a protocol from source; returns the spec of each protocol of a suite with it."""
    path = tmp_path / "patient.py"

    def load(source):
        path.write_text(source)
        Plugin.read(str(path)).load()
        suite = Suite(
            name="mine",
            datasets=("embedded/hopper-medium-v1",),
            objectives=["pbc"],
            protocols=["default", "patient"],
        )
        return {spec.protocol: spec for spec in suite.specs()}

    yield load
    protocols.unregister("patient")


def test_an_edited_protocol_is_another_trial_on_the_same_synsets(load_suite_with):
    before = load_suite_with(PROTOCOL)
    after = load_suite_with(PROTOCOL.replace("= 5", "= 400"))
    assert set(before["patient"].code) == {"protocol"}
    assert after["default"].key == before["default"].key
    assert after["patient"].key != before["patient"].key
    assert after["patient"].distill_key == before["patient"].distill_key
    assert after["patient"].distill_key == after["default"].distill_key


def test_the_fingerprint_of_an_architecture_depends_on_its_values():
    def fingerprint(width):
        architectures.register(
            "narrow", Architecture("narrow", depth=4, width=width), origin="somewhere"
        )
        try:
            return fingerprint_of(architecture="narrow")
        finally:
            architectures.unregister("narrow")

    assert fingerprint(64) == fingerprint(64) != fingerprint(32)
    assert set(fingerprint(64)) == {"architecture"}


USER_MODULE = """
NUMBER = 1

class Loader:
    def __call__(self, dataset_id): ...

def load(dataset_id): ...

loader = Loader()
"""


@pytest.fixture
def hash_of(monkeypatch):
    """Hash a target of a user's module by its name; the module is written anew on each call."""

    def hash_target(name, source):
        module = ModuleType("user_module")
        exec(source, module.__dict__)
        lines = source.splitlines(keepends=True)
        module.__file__ = "/nowhere/user_module.py"
        monkeypatch.setitem(sys.modules, "user_module", module)
        monkeypatch.setitem(
            linecache.cache, module.__file__, (len(source), None, lines, module.__file__)
        )
        known = Registry("dataset", "obdbench.tests.datasets")
        known.register("mine", getattr(module, name))
        return hash_source(known, "mine")

    return hash_target


@pytest.mark.parametrize("name", ["Loader", "load", "loader"])
def test_the_whole_module_of_a_component_is_hashed(hash_of, name):
    source_hash = hash_of(name, USER_MODULE)
    assert len(source_hash) == 16
    assert hash_of(name, USER_MODULE) == source_hash
    assert hash_of(name, USER_MODULE.replace("NUMBER = 1", "NUMBER = 2")) != source_hash


BOUND_LOADERS = """
from functools import partial

def load(dataset_id, size, seed=0): ...

loader = partial(load, 10, seed=1)
"""


def test_the_source_and_the_arguments_of_a_bound_function_are_hashed(hash_of):
    source_hash = hash_of("loader", BOUND_LOADERS)
    assert hash_of("loader", BOUND_LOADERS) == source_hash
    edits = [("): ...", "): return"), ("load, 10", "load, 11"), ("seed=1", "seed=2")]
    others = {hash_of("loader", BOUND_LOADERS.replace(*edit)) for edit in edits}
    assert len(others | {source_hash}) == 4


def test_the_arguments_of_a_bound_function_of_obdbench_are_hashed():
    def hash_with(**arguments):
        known = Registry("objective", "obdbench.tests.objectives")
        known.register("mine", partial(make_objective, **arguments))
        return hash_source(known, "mine")

    assert hash_with(name="pbc", params={}) == hash_with(params={}, name="pbc")
    assert hash_with(name="pbc") != hash_with(name="dbc")


def test_addresses_of_functions_in_the_values_of_a_component_are_not_hashed():
    @dataclass
    class Loader:
        transform: object

    def hash_loader(loader):
        known = Registry("dataset", "obdbench.tests.datasets")
        known.register("mine", loader)
        return hash_source(known, "mine")

    loaders = [Loader(lambda states: states) for _ in range(2)]
    assert repr(loaders[0]) != repr(loaders[1])
    assert hash_loader(loaders[0]) == hash_loader(loaders[1])


@pytest.mark.parametrize("target", ["obdbench.objectives.dbc:DBC", DBC, make_objective])
def test_an_object_of_obdbench_has_no_hash_under_any_name(target):
    known = Registry("objective", "obdbench.tests.objectives")
    known.register("mine", target)
    assert hash_source(known, "mine") is None


def test_components_of_obdbench_have_no_fingerprint():
    dataset = "d4rl/hopper-medium-v2"
    assert fingerprint_of("sdw", "ensemble", dataset, architecture="residual") == {}
    assert fingerprint_of(dataset="file:mine.npz") == {}


SPEC = TrialSpec(dataset="file:mine.npz", objective="mine", code={"objective": "0123"})


@pytest.mark.parametrize("component", ["objective", "architecture", "dataset"])
def test_the_code_of_what_distills_enters_both_keys(component):
    other = SPEC.model_copy(update={"code": SPEC.code | {component: "4567"}})
    assert other.key != SPEC.key
    assert other.distill_key != SPEC.distill_key


def test_the_code_of_a_protocol_enters_the_trial_key_only():
    other = SPEC.model_copy(update={"code": SPEC.code | {"protocol": "4567"}})
    assert other.key != SPEC.key
    assert other.distill_key == SPEC.distill_key


OTHER_VALUES = {
    "architecture": "mlp3",
    "inner_optimizer": "adam",
    "noise": "exact",
    "kernel_start": "drawn",
    "precision": "tf32",
    "outer_optimizer": "sgd",
    "schedule": "constant",
    "init": "kmeans++",
    "solver": "truncated",
    "evaluate_at": (1.0,),
}


@pytest.mark.parametrize("name", DistillSettings.model_fields)
def test_every_setting_enters_both_keys(name):
    default = getattr(SPEC.settings, name)
    value = OTHER_VALUES.get(name, 0.375 if isinstance(default, float) else 7)
    assert value != default
    settings = SPEC.settings.model_copy(update={name: value})
    other = SPEC.model_copy(update={"settings": settings})
    assert other.key != SPEC.key
    assert other.distill_key != SPEC.distill_key


@pytest.mark.parametrize("change", [{"protocol": "size"}, {"protocol_params": {"policies": 2}}])
def test_protocols_share_synsets(change):
    other = SPEC.model_copy(update=change)
    assert other.key != SPEC.key
    assert other.distill_key == SPEC.distill_key


def test_the_name_of_a_preset_enters_no_key():
    other = SPEC.model_copy(update={"preset": "mine"})
    assert (other.key, other.distill_key) == (SPEC.key, SPEC.distill_key)


def test_the_fingerprint_depends_on_the_source_of_selection_methods(tmp_path):
    source = (ROOT / "examples" / "my_selection.py").read_text()

    def fingerprints(text):
        path = tmp_path / "mine.py"
        path.write_text(text)
        Plugin.read(str(path)).load()
        try:
            return fingerprint_of("disagreement"), fingerprint_of(init="disagreement")
        finally:
            objectives.unregister("disagreement")
            selections.unregister("disagreement")

    row, start = fingerprints(source)
    assert (set(row), set(start)) == ({"objective"}, {"selection method"})
    edited = fingerprints(source.replace("np.square", "np.abs"))
    assert edited[0] != row
    assert edited[1] != start
    assert fingerprint_of("kmeans++", init="sdr") == {}
