"""Help, names of user code, and an interrupt before anything runs."""

from __future__ import annotations

import pytest
from support.paths import TOY_PLUGIN as TOY

from obdbench import registry


@pytest.mark.parametrize("command", ["run", "compare", "tune", "list"])
def test_help_of_the_plugin_option_names_what_plugins_register(call, command):
    code, out, err = call(command, "--help")
    assert (code, err) == (0, "")
    text = " ".join(out.split())
    assert all(f"{kind}s" in text for kind in ("objective", "dataset", "protocol", "architecture"))


def test_a_plugin_may_register_datasets_protocols_and_architectures(call, tmp_path):
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


def test_an_interrupt_before_the_run_exits_with_130(call, monkeypatch):
    def interrupt(name):
        raise KeyboardInterrupt

    monkeypatch.setattr("obdbench.cli.run.load_suite", interrupt)
    assert call("run", "quick") == (130, "", "obdbench: Interrupted.\n")


def test_an_interrupted_training_prints_only_how_to_continue(call, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("obdbench.offline_rl.api.train_teacher", interrupt)
    text = "Interrupted; the same command continues the training.\n"
    assert call("teach", "embedded/hopper-medium-v1") == (130, "", text)


@pytest.mark.parametrize("arguments", [[], ["data"]])
def test_a_call_without_a_command_prints_help(call, arguments):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: obdbench")
    assert "\nCommands:\n  " in err


def test_a_damaged_preset_is_listed_with_its_error(call, tmp_path):
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "broken.toml").write_text("[settings")
    (tmp_path / "presets" / "sound.toml").write_text('summary = "mine"')
    code, printed, _ = call("list", "presets")
    assert code == 0
    summaries = dict(line.split(maxsplit=1) for line in printed.splitlines())
    assert "cannot be read" in summaries["broken"]
    assert summaries["sound"] == "mine"
