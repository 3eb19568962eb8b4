"""Students: whose draws, whose episodes and whose actions they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

from obdbench.datasets.dataset import Array, Dataset, Standardizer
from obdbench.distillation.settings import resolve_settings
from obdbench.distillation.synset import Synset
from obdbench.evaluation import students
from obdbench.evaluation.ensemble import Ensemble
from obdbench.evaluation.protocol import Default
from obdbench.policies.cloning import CloningConfig, clone
from obdbench.policies.networks import Params, get_architecture, seeded_generator
from obdbench.policies.optimizers import get_optimizer
from obdbench.tasks.rollout import run_episodes

MLP2 = get_architecture("mlp2")
PLACES = [(3, 0), (5, 0), (3, 9)]  # seed and outer step


def synsets_at(dataset: Dataset) -> list[Synset]:
    rows = dataset.states[:16], dataset.actions[:16]
    return [Synset(*rows, dataset.standardizer, dataset.task, {"step": step}) for _, step in PLACES]


def drawn_with(
    monkeypatch: pytest.MonkeyPatch, dataset: Dataset, noise: str
) -> tuple[Params, Callable[[int], torch.Tensor], Params, Params]:
    """Initial parameters, the noise of a step, what cloning returned, and what training did."""
    recorded: dict[str, Any] = {}

    def watched(cloning: CloningConfig, params: Params, *arguments: Any) -> Params:
        recorded.update(params=params, noise=arguments[2] if arguments[2:] else None)
        recorded["learned"] = clone(cloning, params, *arguments)
        return recorded["learned"]

    monkeypatch.setattr(students, "clone", watched)
    cloning = CloningConfig(MLP2, get_optimizer("sgd"), 0.1, 1)
    seeds = [seed for seed, _ in PLACES]
    settings = resolve_settings("tiny", {"noise": noise})
    trained = students.train_students(cloning, synsets_at(dataset), seeds, 2, settings)
    return recorded["params"], recorded["noise"], recorded["learned"], trained


def all_differ(rows: torch.Tensor) -> bool:
    return not any(torch.equal(first, second) for first, second in combinations(rows, 2))


def test_draws_noise_and_episodes_have_streams_of_their_own() -> None:
    assert (
        len({students.INITIALIZATION_STREAM, students.NOISE_STREAM, students.EPISODE_STREAM}) == 3
    )


@pytest.mark.parametrize("noise", ["none", "exact"])
def test_seed_step_and_number_each_make_another_student(
    monkeypatch: pytest.MonkeyPatch, toy_dataset: Dataset, noise: str
) -> None:
    params, noise_at, learned, trained = drawn_with(monkeypatch, toy_dataset, noise)
    assert all_differ(params["w0"])
    assert len(params["w0"]) == 2 * len(PLACES)
    assert all(torch.equal(trained[name], learned[name]) for name in params)
    assert not torch.equal(trained["w0"], params["w0"])
    if noise == "none":
        assert noise_at is None
    else:
        first, second = noise_at(1), noise_at(2)
        assert first.shape == (2 * len(PLACES), 16, 3)
        assert all_differ(torch.cat([first, second]))


def test_a_student_does_not_depend_on_how_many_there_are(
    monkeypatch: pytest.MonkeyPatch, toy_dataset: Dataset
) -> None:
    params, *_ = drawn_with(monkeypatch, toy_dataset, "none")
    cloning = CloningConfig(MLP2, get_optimizer("sgd"), 1e-12, 1)
    alone = students.train_students(
        cloning, synsets_at(toy_dataset)[1:2], [5], 1, resolve_settings("tiny")
    )
    assert torch.allclose(alone["w0"][0], params["w0"][2])


def test_reset_seeds_are_distinct() -> None:
    resets = [reset for place in PLACES for reset in students.episode_seeds(*place, 2, 3)]
    assert len(set(resets)) == len(resets) == 2 * 3 * len(PLACES)
    assert students.episode_seeds(3, 0, 2, 3) == resets[:6]


def test_seeds_of_other_standardizations_are_scored_by_their_own(toy_dataset: Dataset) -> None:
    own = toy_dataset.standardizer
    synset = synsets_at(toy_dataset)[0]
    moved = replace(synset, standardizer=Standardizer(own.mean + 1, own.std * 2))
    cloning = CloningConfig(MLP2, get_optimizer("sgd"), 0.1, 1)
    params = MLP2.init([seeded_generator(0), seeded_generator(1)], 11, 3)
    run_students = Default(policies=1, episodes=2).run_students
    together = run_students(cloning, params, [synset, moved], [0, 1])
    second = {name: value[1:] for name, value in params.items()}
    own_scores = run_students(cloning, second, [moved], [1])[0]
    other_scores = run_students(cloning, second, [synset], [1])[0]
    assert np.allclose(together[1], own_scores, rtol=1e-3)
    assert not np.allclose(together[1], other_scores, rtol=1e-2)


def test_an_ensemble_acts_by_the_mean_of_its_own_members(toy_dataset: Dataset) -> None:
    synset = synsets_at(toy_dataset)[0]
    cloning = CloningConfig(MLP2, get_optimizer("sgd"), 0.1, 1)
    params = MLP2.init([seeded_generator(number) for number in range(4)], 11, 3)
    scores = Ensemble(policies=2, episodes=3).run_students(
        cloning, params, [synset, synset], [3, 5]
    )
    assert scores.shape == (2, 1, 3)
    for row, seed in enumerate((3, 5)):
        members = {name: value[2 * row : 2 * row + 2] for name, value in params.items()}

        def act(observations: Array, _: Array, members: Params = members) -> Array:
            states = torch.from_numpy(synset.standardizer.apply(observations))
            first, second = MLP2.act(members, states)
            return np.asarray((first + second) / 2)

        resets = students.episode_seeds(seed, 0, 1, 3)
        expected = run_episodes(act, synset.task, resets).returns
        assert np.allclose(scores[row, 0], expected, rtol=1e-3)
