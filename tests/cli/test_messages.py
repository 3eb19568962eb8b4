"""The command line's words: help, own code by name, and an interrupt before anything runs."""

from __future__ import annotations

import pytest
from support.paths import TOY_PLUGIN as TOY

from obdbench import registry


@pytest.mark.parametrize("command", ["run", "compare", "tune", "list"])
def test_the_option_for_own_code_says_what_it_brings(call, command):
    code, out, err = call(command, "--help")
    assert (code, err) == (0, "")
    said = " ".join(out.split())
    assert "objectives, datasets, protocols or architectures" in said


def test_a_plugin_brings_more_than_objectives(call, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from obdbench import register_architecture\n"
        "from obdbench.policies.networks import Architecture\n\n"
        'register_architecture("mlp4-slim", Architecture("mlp4-slim", depth=4, width=8))\n'
    )
    _, datasets, _ = call("list", "datasets", "--plugin", TOY)
    _, protocols, _ = call("list", "protocols", "--plugin", TOY)
    _, architectures, _ = call("list", "architectures", "--plugin", "mine.py")
    registry.architectures.unregister("mlp4-slim")
    assert "toy/hopper-toy-v0" in datasets
    assert "\ntoy" in protocols
    assert "\nmlp4-slim" in architectures


def test_an_interrupt_before_anything_runs_is_said(call, monkeypatch):
    def pressed(name):
        raise KeyboardInterrupt

    monkeypatch.setattr("obdbench.cli.run.load_suite", pressed)
    assert call("run", "quick") == (130, "", "obdbench: Interrupted.\n")


@pytest.mark.parametrize("arguments", [[], ["data"]])
def test_without_a_command_there_is_help_as_it_is(call, arguments):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: obdbench")
    assert "\nCommands:\n  " in err
