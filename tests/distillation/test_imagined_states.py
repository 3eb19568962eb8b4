"""The dynamics model and the states that students visit in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.toys import make_toy_dataset

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.dynamics_model import (
    DynamicsModel,
    DynamicsSettings,
    dynamics_path,
    fit_dynamics,
    load_dynamics,
)
from obdbench.distillation.input_checks import check_inputs
from obdbench.distillation.settings import resolve_settings
from obdbench.distillation.state_sources.imagined import imagine_states
from obdbench.errors import InvalidDataError
from obdbench.objectives.objective import make_objective

SMALL = DynamicsSettings(
    members=2, width=32, hidden_layers=2, steps=1000, batch=64, learning_rate=5e-3
)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Transitions of a linear system that the action pushes."""
    base = make_toy_dataset(3000)
    rng = np.random.default_rng(0)
    observations = rng.normal(size=base.observations.shape).astype(np.float32)
    push = rng.normal(size=(base.action_size, base.observation_size)) * 0.3
    following = 0.8 * observations + base.actions @ push
    return replace(base, observations=observations, next_observations=following.astype(np.float32))


@pytest.fixture(scope="module")
def model(dataset) -> DynamicsModel:
    return fit_dynamics(dataset, SMALL)


def test_the_model_predicts_held_out_transitions(dataset, model):
    assert model.held_out_error < 0.05  # of a variance of one
    states = torch.from_numpy(dataset.states[:64]).expand(2, -1, -1)
    actions = torch.from_numpy(dataset.actions[:64]).expand(2, -1, -1)
    expected = torch.from_numpy(dataset.standardizer.apply(dataset.next_observations[:64]))
    assert (model.step(states, actions) - expected).square().mean() < 0.05


def test_first_observations_of_the_next_episode_are_no_transitions(dataset):
    terminals, following = np.zeros(len(dataset), bool), dataset.next_observations.copy()
    terminals[99::100] = True
    resets = np.flatnonzero(terminals[:-1])
    following[resets] = dataset.observations[resets + 1]
    reset = fit_dynamics(replace(dataset, terminals=terminals, next_observations=following), SMALL)
    kept = np.delete(np.arange(len(dataset)), resets)
    columns = {
        name: getattr(dataset, name)[kept] for name in ("observations", "actions", "rewards")
    }
    columns |= {"terminals": terminals[kept], "next_observations": dataset.next_observations[kept]}
    without = fit_dynamics(replace(dataset, **columns), SMALL)
    torch.testing.assert_close(reset.difference_std, without.difference_std, rtol=0.02, atol=0)


def test_a_fitted_model_is_read_from_the_cache(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("OBDBENCH_CACHE", str(tmp_path))
    first = load_dynamics(dataset, SMALL)
    monkeypatch.setattr(
        "obdbench.distillation.dynamics_model.fit_dynamics",
        lambda *_: pytest.fail("fitted a second time"),
    )
    second = load_dynamics(dataset, SMALL)
    assert second.held_out_error == first.held_out_error
    assert all(torch.equal(first.params[name], second.params[name]) for name in first.params)


@pytest.mark.parametrize("content", [b"", b"garbage" * 100])
def test_a_damaged_cache_is_fitted_again(dataset, tmp_path, monkeypatch, content):
    monkeypatch.setenv("OBDBENCH_CACHE", str(tmp_path))
    path = dynamics_path(dataset, SMALL)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert load_dynamics(dataset, SMALL).held_out_error < 0.05


@pytest.mark.parametrize(
    ("name", "changed"), [("params.w0", "params.w9"), ("params.b1", ""), ("params.w2", "params.w2")]
)
def test_a_cache_with_other_tensors_is_fitted_again(dataset, tmp_path, monkeypatch, name, changed):
    monkeypatch.setenv("OBDBENCH_CACHE", str(tmp_path))
    fitted = load_dynamics(dataset, SMALL)
    path = dynamics_path(dataset, SMALL)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    tensor = tensors.pop(name)
    if changed:
        tensors[changed] = tensor if changed != name else tensor[..., :-1].contiguous()
    save_file(tensors, path, metadata=metadata)
    model = load_dynamics(dataset, SMALL)
    assert all(torch.equal(fitted.params[key], model.params[key]) for key in fitted.params)


def test_data_without_next_observations_is_refused():
    with pytest.raises(InvalidDataError):
        fit_dynamics(make_toy_dataset(), SMALL)


def test_such_data_are_refused_before_any_work_where_states_are_imagined():
    settings = resolve_settings("fast", {"state_source": "imagined"})
    dataset, pbc, selected = make_toy_dataset(), make_objective("pbc"), make_objective("random")
    with pytest.raises(InvalidDataError, match="next_observations"):
        check_inputs(pbc, settings, dataset, None)
    check_inputs(selected, settings, dataset, None)
    check_inputs(pbc, resolve_settings("fast"), dataset, None)


def still(states: torch.Tensor) -> torch.Tensor:
    return torch.zeros(*states.shape[:-1], 3)


def shifted_model(shift: float, size: int = 11, members: int = 2) -> DynamicsModel:
    """A model under which every state moves by ``shift`` in its first coordinate."""
    params = {"w0": torch.zeros(members, size, size + 3), "b0": torch.zeros(members, size)}
    mean = torch.zeros(size)
    mean[0] = shift
    bound = torch.full((size,), 1.0)
    return DynamicsModel(params, mean, torch.ones(size), -bound, bound, 0.0)


def test_trajectories_end_where_they_leave_the_range_of_the_data():
    starts = torch.zeros(4, 11)
    starts[:, 0] = torch.tensor([0.0, 0.5, 0.9, -1.0])
    states = imagine_states(
        shifted_model(0.25), still, starts, 20, generator=torch.Generator().manual_seed(0)
    )
    first = sorted(round(value, 2) for value in states[:, 0].tolist())
    expected = [
        *(0.0, 0.25, 0.5, 0.75, 1.0),
        *(0.5, 0.75, 1.0),
        0.9,
        *(-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0),
    ]
    assert first == sorted(expected)


def test_the_horizon_bounds_a_trajectory():
    states = imagine_states(
        shifted_model(0.0), still, torch.zeros(6, 11), 5, generator=torch.Generator()
    )
    assert states.shape == (6 * 6, 11)


def test_noise_is_drawn_from_the_generator():
    def imagine(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return imagine_states(
            shifted_model(0.0), still, torch.zeros(200, 11), 4, noise=0.1, generator=generator
        )

    assert torch.equal(imagine(1), imagine(1))
    assert not torch.equal(imagine(1), imagine(2))
    assert imagine(1).std() == pytest.approx(0.1, rel=0.05)
