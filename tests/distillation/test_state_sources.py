"""State sources: registry, batches with added states, seeds, resume, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.toys import make_toy_dataset, make_toy_teacher

from obdbench.datasets.dataset import Dataset, DerivedDataset
from obdbench.distillation.batch_sampler import BatchSampler
from obdbench.distillation.dynamics_model import DynamicsModel, DynamicsSettings
from obdbench.distillation.loop import EvaluationPoint, distill_points
from obdbench.distillation.settings import DistillSettings, resolve_settings
from obdbench.distillation.state_sources.imagined import ImaginedStates
from obdbench.distillation.state_sources.smoothed import SmoothedStates
from obdbench.distillation.state_sources.state_source import StateSource, make_state_source
from obdbench.errors import InvalidDataError, InvalidSettingError, ObdError
from obdbench.objectives import density, sdw
from obdbench.objectives.density import FlowSettings
from obdbench.objectives.objective import Batch, Columns, make_objective
from obdbench.objectives.pbc import PBC
from obdbench.registry import state_sources
from obdbench.teachers.teacher import Teacher

QUICK_DYNAMICS = DynamicsSettings(members=2, width=8, hidden_layers=1, steps=5, batch=16)
QUICK_FLOW = FlowSettings(transforms=1, hidden=8, steps=3, batch=16)


class RecordingPBC(PBC):
    """PBC that records its batches."""

    name = "recording-pbc"

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Columns] = []

    def loss(self, actions: torch.Tensor, batch: Batch) -> torch.Tensor:
        self.batches.append(dict(batch.columns))
        return super().loss(actions, batch)


@pytest.fixture(autouse=True)
def _quick_dynamics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBDBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ImaginedStates, "dynamics_settings", QUICK_DYNAMICS)
    monkeypatch.setattr(sdw, "log_density", lambda data: density.log_density(data, QUICK_FLOW))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    base = make_toy_dataset(400)
    following = np.roll(base.observations, -1, axis=0)
    return replace(base, next_observations=following)


@pytest.fixture(scope="module")
def teacher(dataset: Dataset) -> Teacher:
    return make_toy_teacher(dataset)


def imagined(**overrides: Any) -> DistillSettings:
    settings = {
        "pairs": 8,
        "inner_steps": 4,
        "steps": 8,
        "batch": 32,
        "kernel_batch": 32,
        "smoothing": 0.2,
        "evaluate_at": (0, 0.5, 1),
        "state_source": "imagined",
        "imagined_start": 1,
        "imagined_interval": 2,
        "imagined_students": 2,
        "imagined_starts": 6,
        "imagined_horizon": 3,
        "imagined_states": 20,
        "imagined_rounds": 2,
    }
    return resolve_settings("tiny", {**settings, **overrides})


def distill(
    dataset: Dataset,
    teacher: Teacher | None,
    settings: DistillSettings,
    seeds: list[int],
    objective: str = "pbc",
    **more: Any,
) -> list[EvaluationPoint]:
    points = distill_points(dataset, teacher, make_objective(objective), settings, seeds, **more)
    return list(points)


def test_a_batch_is_shared_between_data_and_added_states() -> None:
    sampler = BatchSampler({"states": torch.zeros(50, 3)})
    sampler.added = [{"states": torch.ones(5, 3)}, {"states": torch.full((7, 3), 2.0)}]
    sampler.added_share = 0.25
    states = sampler.draw(8, [torch.Generator().manual_seed(i) for i in range(2)]).states
    assert states[:, :, 0].tolist() == [[0.0] * 6 + [1.0] * 2, [0.0] * 6 + [2.0] * 2]


def test_imagined_states_of_a_model_that_does_not_move_are_the_starts(
    dataset: Dataset, teacher: Teacher
) -> None:
    settings = imagined(imagined_noise=0.0, imagined_starts=10, imagined_states=1000)
    source = ImaginedStates(dataset, settings)
    size = dataset.observation_size
    weights = {
        "w0": torch.zeros(2, size, size + dataset.action_size),
        "b0": torch.zeros(2, size),
    }
    bound = torch.full((size,), 1e6)
    still = torch.zeros(size)
    source.model = DynamicsModel(weights, still, torch.ones(size), -bound, bound, 0.0)
    x, a = torch.zeros(8, size), torch.zeros(8, dataset.action_size)
    visited = source.new_states(x, a, seed=0, step=5)
    rows, counts = np.unique(visited.numpy(), axis=0, return_counts=True)
    assert len(visited) == 2 * 10 * (3 + 1)  # students, starts, and states per trajectory
    assert set(counts) <= {4, 8}  # a start is drawn once per student
    assert {tuple(row) for row in rows} <= {tuple(row) for row in dataset.states}
    assert torch.equal(visited, source.new_states(x, a, seed=0, step=5))
    assert not torch.equal(visited, source.new_states(x, a, seed=1, step=5))


@pytest.mark.parametrize("kernel_share", [0.0, 1.0])
@pytest.mark.parametrize("draws", [1, 2])
def test_teacher_labels_imagined_states(
    kernel_share: float, draws: int, dataset: Dataset, teacher: Teacher
) -> None:
    objective = RecordingPBC()
    settings = imagined(kernel_share=kernel_share, draws=draws)
    list(distill_points(dataset, teacher, objective, settings, [0, 1]))
    last = objective.batches[-1]
    states = last["states"][0].numpy()
    expected = teacher.act(dataset.standardizer.invert(states))
    assert np.allclose(last["teacher_actions"][0].numpy(), expected, atol=1e-4)
    half = len(states) // 2
    assert np.allclose(last["actions"][0].numpy()[half:], expected[half:], atol=1e-4)
    assert not np.allclose(last["actions"][0].numpy()[:half], expected[:half], atol=1e-2)


@pytest.mark.parametrize("kernel_share", [0.0, 0.5])
@pytest.mark.parametrize("objective", ["sdw", "pbc"])
def test_resumed_distillation_gives_the_same_bits(
    kernel_share: float, objective: str, dataset: Dataset, teacher: Teacher, tmp_path: Path
) -> None:
    settings = imagined(kernel_share=kernel_share)
    uninterrupted = distill(dataset, teacher, settings, [0, 1], objective)
    snapshot = tmp_path / "snapshot"
    points = distill_points(
        dataset, teacher, make_objective(objective), settings, [0, 1], snapshot=snapshot
    )
    next(points)
    next(points)  # the snapshot of step 4 holds rounds of imagined states
    points.close()
    resumed = distill(dataset, teacher, settings, [0, 1], objective, snapshot=snapshot)
    for left_point, right_point in zip(uninterrupted, resumed, strict=True):
        assert left_point.losses == right_point.losses
        for a, b in zip(left_point.synsets, right_point.synsets, strict=True):
            assert np.array_equal(a.states, b.states)
            assert np.array_equal(a.actions, b.actions)
            assert a.card == b.card


@pytest.mark.parametrize("kernel_share", [0.0, 0.5])
def test_a_seed_alone_equals_the_seed_beside_others(
    kernel_share: float, dataset: Dataset, teacher: Teacher
) -> None:
    settings = imagined(kernel_share=kernel_share)
    beside = distill(dataset, teacher, settings, [3, 5, 4], dtype=torch.float64)[-1].synsets[1]
    alone = distill(dataset, teacher, settings, [5], dtype=torch.float64)[-1].synsets[0]
    assert np.allclose(beside.states, alone.states, rtol=0, atol=1e-6)
    other = distill(dataset, teacher, settings, [4], dtype=torch.float64)[-1].synsets[0]
    assert not np.allclose(other.states, alone.states, rtol=0, atol=1e-3)


def test_imagined_states_change_the_synset_from_their_first_round_on(
    dataset: Dataset, teacher: Teacher
) -> None:
    smoothed = distill(dataset, teacher, imagined(state_source="smoothed"), [0])
    never = distill(dataset, teacher, imagined(imagined_start=100), [0])
    late = distill(dataset, teacher, imagined(imagined_start=4), [0])
    for left_point, right_point in zip(smoothed, never, strict=True):
        assert np.array_equal(left_point.synsets[0].states, right_point.synsets[0].states)
    assert np.array_equal(late[1].synsets[0].states, smoothed[1].synsets[0].states)
    assert not np.array_equal(late[2].synsets[0].states, smoothed[2].synsets[0].states)


def test_the_synset_card_states_the_error_of_the_dynamics_model(
    dataset: Dataset, teacher: Teacher
) -> None:
    for point in distill(dataset, teacher, imagined(steps=2), [0]):
        entry = point.synsets[0].card["dynamics_model"]
        assert entry["held_out_error"] > 0
        assert entry["steps"] == QUICK_DYNAMICS.steps


def test_smoothed_without_noise_equals_the_data(dataset: Dataset, teacher: Teacher) -> None:
    data = distill(dataset, teacher, imagined(state_source="data", smoothing=0.3), [0])
    plain = distill(dataset, teacher, imagined(state_source="smoothed", smoothing=0.0), [0])
    noisy = distill(dataset, teacher, imagined(state_source="smoothed", smoothing=0.3), [0])
    assert np.array_equal(data[-1].synsets[0].states, plain[-1].synsets[0].states)
    assert not np.array_equal(data[-1].synsets[0].states, noisy[-1].synsets[0].states)


@pytest.mark.parametrize("with_teacher", [True, False])
def test_an_objective_without_a_teacher_is_refused(
    with_teacher: bool, dataset: Dataset, teacher: Teacher
) -> None:
    with pytest.raises(InvalidSettingError):
        distill(dataset, teacher if with_teacher else None, imagined(), [0], "dbc")


def test_unknown_source_and_class_of_another_kind_are_refused(dataset: Dataset) -> None:
    with pytest.raises(ObdError):
        imagined(state_source="imaginary")
    state_sources.register("no-source", RecordingPBC)
    try:
        with pytest.raises(InvalidSettingError):
            make_state_source(dataset, None, imagined(state_source="no-source"))
    finally:
        state_sources.unregister("no-source")


class HalfOfTheStates(StateSource):
    """A source that drops transitions."""

    name = "half"

    def fixed_dataset(self) -> Dataset:
        names = ("actions", "rewards", "terminals", "observations")
        rows = {name: getattr(self.dataset, name)[:200] for name in names}
        return DerivedDataset(
            id=self.dataset.id, task=self.dataset.task, reference=self.dataset, **rows
        )


class StatesInOtherUnits(StateSource):
    """A source whose states have their own standardizer."""

    name = "other-units"

    def fixed_dataset(self) -> Dataset:
        return replace(self.dataset, observations=2 * self.dataset.observations)


@pytest.mark.parametrize("source", [HalfOfTheStates, StatesInOtherUnits])
def test_a_fixed_dataset_of_another_size_or_unit_is_refused(
    source: type[StateSource], dataset: Dataset, teacher: Teacher
) -> None:
    state_sources.register(source.name, source)
    try:
        with pytest.raises(InvalidDataError):
            distill(dataset, teacher, imagined(state_source=source.name), [0])
    finally:
        state_sources.unregister(source.name)


def test_sdw_uses_the_density_of_the_data_at_other_states(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = density.evaluate_log_density(
        density.fit_flow(dataset.states, QUICK_FLOW), dataset.states[:50] + 1.0
    )
    density.log_density(dataset, QUICK_FLOW)
    monkeypatch.setattr(density, "fit_flow", lambda *_: pytest.fail("fitted a second time"))
    rows = {name: getattr(dataset, name)[:50] for name in ("actions", "rewards", "terminals")}
    derived = DerivedDataset(
        id=dataset.id,
        task=dataset.task,
        observations=dataset.standardizer.invert(dataset.states[:50] + 1.0),
        reference=dataset,
        **rows,
    )
    assert np.allclose(density.log_density(derived, QUICK_FLOW), expected, atol=1e-3)


def test_a_round_is_not_kept_longer_than_asked(dataset: Dataset, teacher: Teacher) -> None:
    objective = RecordingPBC()
    settings = imagined(imagined_rounds=1, steps=8)
    list(distill_points(dataset, teacher, objective, settings, [0]))
    added = [batch["states"][0][16:] for batch in objective.batches[1:]]
    rounds = [{tuple(row.tolist()) for row in states} for states in added]
    assert rounds[0] & rounds[1]  # steps 1 and 2 draw from one round
    assert not rounds[1] & rounds[2]  # step 3 has a new one


def test_smoothed_is_the_default(dataset: Dataset) -> None:
    source = make_state_source(dataset, None, resolve_settings("fast"))
    assert type(source) is SmoothedStates
