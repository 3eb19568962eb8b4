"""The published teachers as they are published."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from obdbench.datasets.references import get_reference
from obdbench.errors import FetchError, UnknownNameError
from obdbench.registry import D4RL_NAMES
from obdbench.tasks.task import TASKS, get_task
from obdbench.teachers import published_scores
from obdbench.teachers.checkpoint import read_checkpoint
from obdbench.teachers.loading import load_teacher
from obdbench.teachers.published import (
    download_checkpoint,
    load_published_teacher,
    published_teachers,
)
from obdbench.teachers.teacher import Teacher

NAME = "walker2d-medium-v2"


def test_every_published_teacher_has_address_checksum_and_size():
    assert sorted(published_teachers()) == sorted(f"{name}-v2" for name in D4RL_NAMES)
    for facts in published_teachers().values():
        assert facts["url"].startswith("https://")
        assert len(facts["sha256"]) == 64
        assert 3_000_000 < facts["bytes"] < 5_000_000


def test_unknown_name_suggests_a_known_one():
    with pytest.raises(UnknownNameError, match="hopper-medium-v2"):
        load_published_teacher("hopper-medum-v2")


def test_offline_without_mirror_is_a_fetch_error(tmp_path, monkeypatch):
    monkeypatch.setenv("OBDBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("OBDBENCH_OFFLINE", "1")
    monkeypatch.delenv("OBDBENCH_MIRROR", raising=False)
    with pytest.raises(FetchError, match="OBDBENCH_MIRROR"):
        load_published_teacher(NAME)


@pytest.mark.mirror
@pytest.mark.parametrize("name", [f"{name}-v2" for name in D4RL_NAMES])
def test_every_teacher_uses_the_moments_of_the_d4rl_data(mirror, name):
    teacher = load_published_teacher(name)
    task = get_task(name)
    assert teacher.observation_size == task.observation_size
    assert teacher.action_size == task.action_size
    assert [tuple(w.shape) for w, _ in teacher.actor][1:3] == [(256, 256)] * 2
    assert len(teacher.critics) == 2
    np.testing.assert_array_equal(teacher.standardizer.mean, get_reference(name).moments.mean)


@pytest.mark.mirror
def test_reading_imports_no_foreign_module(mirror):
    before = set(sys.modules)
    content = read_checkpoint(download_checkpoint(NAME))
    foreign = {name.split(".")[0] for name in set(sys.modules) - before}
    assert foreign <= {"torch", "numpy", "pickle", "zipfile", "_compat_pickle"} | set(
        sys.stdlib_module_names
    )
    assert not hasattr(sys.modules["__main__"], "Scalar")
    assert {"actor", "critic1", "critic2"} <= set(content)


@pytest.mark.mirror
def test_teacher_equals_the_checkpoint_in_double_precision(mirror):
    """Actor and critics by hand from the raw state dictionaries, in double precision."""
    content, teacher, moments = (
        read_checkpoint(download_checkpoint(NAME)),
        load_published_teacher(NAME),
        get_reference(NAME).moments,
    )
    rng = np.random.default_rng(0)
    raw = (moments.mean + moments.std * rng.normal(size=(50, 17))).astype(np.float32)

    def run(state, prefix, positions, x):
        for at in positions:
            x = (
                x @ state[f"{prefix}.{at}.weight"].double().T
                + state[f"{prefix}.{at}.bias"].double()
            )
            x = x if at == positions[-1] else x.clamp(min=0)
        return x

    states = torch.from_numpy((raw.astype(np.float64) - moments.mean) / (moments.std + 1e-3))
    actor = content["actor"]
    mean, raw_std = run(actor, "base_network", (0, 2, 4, 6), states).chunk(2, -1)
    actions = torch.tanh(mean)
    np.testing.assert_allclose(teacher.act(raw), actions, atol=2e-5)
    log_std = raw_std * actor["log_std_multiplier.constant"] + actor["log_std_offset.constant"]
    np.testing.assert_allclose(teacher.distribution(raw)[1], log_std.exp(), rtol=2e-4)
    inputs = torch.cat([states, actions], -1)
    values = [run(content[c], "network", (0, 2, 4), inputs)[:, 0] for c in ("critic1", "critic2")]
    ours = teacher.value(raw, actions.numpy().astype(np.float32))
    np.testing.assert_allclose(ours, torch.minimum(*values), rtol=1e-4, atol=1e-2)


@pytest.mark.mirror
def test_safetensors_copy_has_the_same_checksum(mirror, tmp_path):
    teacher = load_published_teacher("hopper-medium-v2")
    teacher.save(tmp_path / "teacher.safetensors")
    assert Teacher.load(tmp_path / "teacher.safetensors").checksum == teacher.checksum
    assert load_teacher("d4rl/hopper-medium-v2").checksum == teacher.checksum


@pytest.mark.mirror
def test_a_teacher_reaches_its_published_score(mirror):
    """The cheapest of the nine; `obdbench data verify` measures them all."""
    teacher = load_published_teacher("halfcheetah-medium-v2")
    measured = published_scores.evaluate_teacher(teacher, TASKS["halfcheetah"], episodes=3).mean()
    assert abs(measured - published_teachers()["halfcheetah-medium-v2"]["offrl"]) < 5


@pytest.mark.mirror
@pytest.mark.slow
def test_all_teachers_reach_their_published_scores(mirror):
    differences = [
        measured - paper for _, measured, paper in published_scores.compare_published_teachers()
    ]
    assert len(differences) == 9
    assert max(map(abs, differences)) <= published_scores.MAX_DIFFERENCE
    assert abs(np.mean(differences)) <= published_scores.MAX_MEAN_DIFFERENCE
