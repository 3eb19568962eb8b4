"""Own code is part of a trial's key: of the objective, and of all else that decides its numbers."""

import pytest

from obdbench.experiments.fingerprint import code_fingerprint, distilling, without
from obdbench.experiments.suite import Suite
from obdbench.plugins import Plugin
from obdbench.policies.networks import Architecture
from obdbench.registry import architectures, protocols

PROTOCOL = """
from obdbench import register_protocol
from obdbench.evaluation.protocol import Default


@register_protocol("patient")
class Patient(Default):
    name = "patient"
    steps_of_mine = 5
"""


@pytest.fixture
def patient(tmp_path):
    """A protocol of one's own, and how to edit it."""
    path = tmp_path / "patient.py"

    def load(source):
        path.write_text(source)
        Plugin.read(str(path)).load()
        suite = Suite(
            name="mine",
            datasets=("embedded/hopper-medium-v0",),
            objectives=["pbc"],
            protocols=["default", "patient"],
        )
        return {spec.protocol: spec for spec in suite.specs()}

    yield load
    protocols.unregister("patient")


def test_an_edited_protocol_is_another_trial_on_the_same_synsets(patient):
    before = patient(PROTOCOL)
    after = patient(PROTOCOL.replace("= 5", "= 400"))
    assert after["default"].key == before["default"].key
    assert after["patient"].key != before["patient"].key
    assert after["patient"].distill_key == before["patient"].distill_key
    assert after["patient"].distill_key == after["default"].distill_key


def test_an_own_architecture_counts_by_its_values():
    def code(width):
        architectures.register(
            "narrow", Architecture("narrow", depth=4, width=width), origin="somewhere"
        )
        try:
            return code_fingerprint("pbc", "default", "narrow", "embedded/hopper-medium-v0")
        finally:
            architectures.unregister("narrow")

    assert code(64) == code(64) != code(32)
    assert code(64).startswith("architecture=")


def test_this_projects_own_code_leaves_keys_alone():
    assert code_fingerprint("sdw", "ensemble", "residual", "recon/hopper-medium-v2") is None
    assert code_fingerprint("pbc", "default", "mlp4", "file:mine.npz") is None


def test_what_is_distilled_does_not_depend_on_the_protocols_code():
    assert distilling(None) is None
    assert distilling("0123") == "0123"
    assert distilling("protocol=99") is None
    assert distilling("objective=0123 protocol=99") == "0123"
    assert distilling("objective=0123 protocol=99 dataset=77") == "objective=0123 dataset=77"


def test_one_kind_can_be_left_out():
    assert without("objective=0123 dataset=77", "dataset") == "0123"
    assert without("architecture=5 dataset=77", "dataset") == "architecture=5"
    assert without("dataset=77", "dataset") is None
    assert without("0123", "dataset") == "0123"


def test_a_student_that_the_limit_does_not_know_is_mentioned(caplog):
    from obdbench.execution.run import mention_kernel

    def specs(**settings):
        return Suite(
            name="mine",
            datasets=("embedded/hopper-medium-v0",),
            objectives=["random", "pbc"],
            settings=settings,
        ).specs()

    mention_kernel(specs())
    mention_kernel(specs(architecture="residual", kernel_share=0))
    assert not caplog.records
    mention_kernel(specs(architecture="residual"))
    assert "95% of the steps" in caplog.text
    assert "not of residual" in caplog.text
