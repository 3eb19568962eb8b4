"""Protocols: arms, selection, variants, seeds, and scores in a real environment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.settings import DistillSettings, resolve_settings
from obdbench.distillation.synset import Synset
from obdbench.errors import InvalidSettingError, ObdError
from obdbench.evaluation import students
from obdbench.evaluation.api import evaluate
from obdbench.evaluation.ensemble import Ensemble
from obdbench.evaluation.protocol import Arm, Default, Protocol, make_protocol
from obdbench.experiments.spec import TrialSpec
from obdbench.policies.networks import Architecture, Params, get_architecture, seeded_generator
from obdbench.tasks.task import TASKS, normalized_return

TINY = resolve_settings("tiny", {"inner_steps": 5})


def synset_at(dataset: Dataset, step: int = 0, first: int = 0) -> Synset:
    rows = slice(first, first + 16)
    card = {"step": step, "settings": TINY.model_dump(mode="json")}
    return Synset(
        dataset.states[rows], dataset.actions[rows], dataset.standardizer, dataset.task, card
    )


def few(name: str, **params: Any) -> Protocol:
    return make_protocol(name, {"policies": 2, "episodes": 2, "steps": 5, **params})


def test_default_scores_every_seed(toy_dataset: Dataset) -> None:
    synsets = [synset_at(toy_dataset), synset_at(toy_dataset, first=20)]
    scored = few("default").score(synsets, TINY, [3, 5])
    assert [(s.seed, s.arm) for s in scored] == [(3, "default"), (5, "default")]
    for score in scored:
        assert np.shape(score.returns) == (2, 2)
        expected = normalized_return(TASKS["hopper"], score.returns).mean()
        assert score.normalized_return == pytest.approx(expected)


def test_a_seeds_score_does_not_depend_on_its_neighbors(toy_dataset: Dataset) -> None:
    first, second = synset_at(toy_dataset), synset_at(toy_dataset, first=20)
    protocol = few("default")
    together = protocol.score([first, second], TINY, [3, 5])[1]
    alone = protocol.score([second], TINY, [5])[0]
    assert np.allclose(together.returns, alone.returns, rtol=1e-3)
    assert protocol.score([first, second], TINY, [3, 5])[1] == together


def test_points_get_fresh_students(toy_dataset: Dataset) -> None:
    protocol = few("default")
    first, second = (
        protocol.score([synset_at(toy_dataset, step)], TINY, [0])[0].returns for step in (0, 9)
    )
    assert first != second


@pytest.mark.parametrize(
    ("name", "arms"),
    [
        ("default", ["default"]),
        ("cross-architecture", ["mlp2", "mlp3", "mlp5", "mlp6", "residual"]),
        ("cross-optimizer", ["adam", "adamw", "sgdm"]),
        ("ensemble", ["ensemble"]),
        ("size", ["16"]),
    ],
)
def test_arms(name: str, arms: list[str]) -> None:
    names = make_protocol(name).arms(TINY)
    assert [arm.name for arm in names] == arms


def test_published_settings_are_available() -> None:
    published = make_protocol("cross-architecture", {"published": True}).arms(TINY)
    assert {(arm.cloning.steps, arm.cloning.lr) for arm in published} == {(500, 0.1)}
    stated = make_protocol("cross-optimizer", {"setting": "stated"}).arms(TINY)
    assert [arm.cloning.optimizer.name for arm in stated] == ["adam", "adamw", "sgdm"]
    assert {(arm.cloning.steps, arm.cloning.lr) for arm in stated} == {(500, 0.1)}
    as_run = make_protocol("cross-optimizer", {"setting": "as-run"}).arms(TINY)
    assert {arm.cloning.optimizer.name for arm in as_run} == {"sgd"}


def test_students_train_as_published_whatever_the_inner_loop() -> None:
    for name in ("default", "ensemble", "size", "cross-architecture"):
        for arm in make_protocol(name).arms(TINY):
            assert (arm.cloning.steps, arm.cloning.lr, arm.cloning.optimizer.name) == (
                100,
                0.1,
                "sgd",
            )


def test_steps_rate_and_architecture_are_those_asked_for() -> None:
    settings = resolve_settings("tiny", {"architecture": "mlp2"})
    for name in ("default", "ensemble", "size"):
        (arm,) = make_protocol(name, {"steps": 7, "lr": 0.3}).arms(settings)
        assert (arm.cloning.architecture.name, arm.cloning.steps, arm.cloning.lr) == (
            "mlp2",
            7,
            0.3,
        )
    for arm in make_protocol("cross-architecture", {"steps": 7, "lr": 0.3}).arms(settings):
        assert arm.cloning.architecture is get_architecture(arm.name)
        assert (arm.cloning.steps, arm.cloning.lr) == (7, 0.3)
    for arm in make_protocol("cross-optimizer", {"steps": 7}).arms(settings):
        assert (arm.cloning.architecture.name, arm.cloning.steps) == ("mlp2", 7)


def test_every_optimizer_has_a_rate_of_its_own() -> None:
    """As docs/protocols.md gives them, or as asked for."""
    for rates in ({"adam": 1e-3, "adamw": 1e-3, "sgdm": 1e-2}, {"adam": 0.2, "sgd": 0.5}):
        arms = make_protocol("cross-optimizer", {"rates": rates}).arms(TINY)
        assert {arm.name: arm.cloning.lr for arm in arms} == rates
        if "adamw" in rates:
            assert arms == make_protocol("cross-optimizer").arms(TINY)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("default", {"policies": 3, "episodes": 4, "points": 2, "steps": 5, "lr": 0.2}),
        ("cross-architecture", {"architectures": ["mlp2"], "points": 2, "published": True}),
        ("cross-optimizer", {"rates": {"adam": 0.2}, "setting": "own", "episodes": 4}),
        ("cross-optimizer", {"setting": "as-run", "episodes": 4}),
        ("size", {"sizes": [4, 8]}),
    ],
)
def test_settings_make_the_same_protocol(name: str, params: dict[str, Any]) -> None:
    settings = make_protocol(name, params).settings()
    assert params.items() <= settings.items()
    assert make_protocol(name, settings).settings() == settings


def test_selection_of_points() -> None:
    steps = [30, 0, 20, 10]
    assert make_protocol("default", {"points": 2}).select(steps) == [20, 30]
    steps.sort()
    assert make_protocol("default").select(steps) == steps
    assert make_protocol("default", {"points": 2}).select(steps) == [20, 30]
    assert make_protocol("ensemble", {"points": 1}).select(steps) == [30]


def test_size_needs_one_distillation_a_size() -> None:
    sizes = [v.pairs for v in make_protocol("size", {"sizes": [4, 8]}).variants(DistillSettings())]
    assert sizes == [4, 8]
    assert len(make_protocol("default").variants(DistillSettings())) == 1


def test_a_size_is_checked_as_any_other_setting() -> None:
    with pytest.raises(ObdError, match="pairs"):
        make_protocol("size", {"sizes": [16, 70_000]}).variants(DistillSettings())


def test_a_size_changes_nothing_but_the_pairs() -> None:
    """Equal to a copy with another size, which is what results that count are named by."""
    settings = resolve_settings("fast", {"clip": 2, "window": 9, "solver": "truncated"})
    (variant,) = make_protocol("size", {"sizes": [64]}).variants(settings)
    assert variant == settings.model_copy(update={"pairs": 64})
    specs = [
        TrialSpec(dataset="d", objective="pbc", protocol="size", settings=each)
        for each in (variant, settings.model_copy(update={"pairs": 64}))
    ]
    assert specs[0].key == specs[1].key


def test_an_ensemble_of_equals_is_the_policy_itself(toy_dataset: Dataset) -> None:
    synset = synset_at(toy_dataset)
    cloning = make_protocol("default").arms(TINY)[0].cloning
    params = cloning.architecture.init([seeded_generator(0)], 11, 3)
    three = {name: value.expand(3, *value.shape[1:]).clone() for name, value in params.items()}
    single = Default(policies=1, episodes=4).run_students(cloning, params, [synset], [0])
    ensemble = Ensemble(policies=3, episodes=4).run_students(cloning, three, [synset], [0])
    assert np.allclose(single, ensemble, rtol=1e-3)


def test_the_actor_is_each_policy_on_its_own_slots(toy_dataset: Dataset) -> None:
    architecture = get_architecture("mlp2")
    params = architecture.init([seeded_generator(s) for s in range(4)], 11, 3)
    actor = students.BatchedActor(architecture, params, [toy_dataset.standardizer], episodes=3)
    rng = np.random.default_rng(0)
    running = np.arange(12)
    while len(running):
        observations = rng.normal(size=(len(running), 11))
        actions = actor(observations, running)
        states = torch.from_numpy(toy_dataset.standardizer.apply(observations))
        for row, slot in enumerate(running):
            own = {name: value[slot // 3][None] for name, value in params.items()}
            expected = architecture.act(own, states[row : row + 1])[0, 0]
            assert np.allclose(actions[row], expected, atol=1e-5)
        running = np.delete(running, rng.integers(len(running)))
    assert len(actor.active_policies) < 4, "finished policies are dropped from the program"
    assert actor(rng.normal(size=(12, 11)), np.arange(12)).shape == (12, 3), "and come back"


def test_standardization_of_each_seed_is_its_own(toy_dataset: Dataset) -> None:
    from obdbench.datasets.dataset import Standardizer

    other = Standardizer(toy_dataset.standardizer.mean + 1, toy_dataset.standardizer.std * 2)
    architecture = get_architecture("mlp2")
    params = architecture.init([seeded_generator(0), seeded_generator(1)], 11, 3)
    actor = students.BatchedActor(
        architecture, params, [toy_dataset.standardizer, other], episodes=1
    )
    observations = np.random.default_rng(0).normal(size=(2, 11))
    actions = actor(observations, np.array([0, 1]))
    for row, standardizer in enumerate((toy_dataset.standardizer, other)):
        own = {name: value[row][None] for name, value in params.items()}
        states = torch.from_numpy(standardizer.apply(observations[row : row + 1]))
        assert np.allclose(actions[row], architecture.act(own, states)[0, 0], atol=1e-5)


def test_noise_in_cloning_is_seeded(toy_dataset: Dataset) -> None:
    noisy = resolve_settings("tiny", {"inner_steps": 5, "noise": "exact"})
    synset, protocol = synset_at(toy_dataset), few("default")
    first = protocol.score([synset], noisy, [0])
    assert first == protocol.score([synset], noisy, [0])
    assert first != protocol.score([synset], TINY, [0])


def test_public_evaluate(toy_dataset: Dataset) -> None:
    evaluation = evaluate(synset_at(toy_dataset), "ensemble", policies=2, episodes=2, steps=5)
    assert set(evaluation.scores) == {"ensemble"}
    assert evaluation.normalized_return == evaluation.scores["ensemble"]
    assert np.shape(evaluation.returns["ensemble"]) == (1, 2), "both act as one"
    several = evaluate(synset_at(toy_dataset), few("cross-optimizer"))
    assert len(set(several.scores.values())) == 3
    assert several.normalized_return == pytest.approx(sum(several.scores.values()) / 3)


def test_a_synset_may_be_given_by_its_file(toy_dataset: Dataset, tmp_path: Path) -> None:
    synset, effort = synset_at(toy_dataset), {"policies": 2, "episodes": 2, "steps": 5}
    path = tmp_path / "one.safetensors"
    synset.save(path)
    expected = evaluate(synset, **effort)
    assert evaluate(path, **effort) == evaluate(str(path), **effort) == expected
    with pytest.raises(InvalidSettingError, match="received a list"):
        evaluate([synset])  # type: ignore[arg-type]
    with pytest.raises(InvalidSettingError):
        evaluate(synset, few("default"), policies=2)


def test_a_synset_is_scored_under_its_own_seed(toy_dataset: Dataset) -> None:
    """As a trial scores it: with the students of the seed it was distilled with."""
    plain = synset_at(toy_dataset)
    own = replace(plain, card={**plain.card, "seed": 7})
    effort = {"policies": 2, "episodes": 2, "steps": 5}
    (expected,) = few("default").score([own], TINY, [7])
    assert evaluate(own, **effort).returns == {"default": expected.returns}
    assert evaluate(own, seed=0, **effort) == evaluate(plain, **effort)
    assert evaluate(own, **effort) != evaluate(plain, **effort)
    for seed in (-1, "7", None, True, 1.5):
        with pytest.raises(ObdError, match="card contains the seed"):
            evaluate(replace(plain, card={**plain.card, "seed": seed}), **effort)


def test_arms_of_one_name_are_refused(toy_dataset: Dataset) -> None:
    class Twice(Protocol):
        name = "twice"

        def arms(self, settings: DistillSettings) -> list[Arm]:
            return 2 * super().arms(settings)

    with pytest.raises(ObdError, match="arms"):
        Twice(policies=1, episodes=1, steps=1).score([synset_at(toy_dataset)], TINY, [0])


def test_a_card_must_name_a_step(toy_dataset: Dataset) -> None:
    plain = synset_at(toy_dataset)
    for step in (-1, "7", None, True, 1.5, float("nan"), []):
        with pytest.raises(ObdError, match="card contains the step"):
            evaluate(replace(plain, card={**plain.card, "step": step}), policies=1, episodes=1)


def test_an_invalid_card_is_one_clear_error(toy_dataset: Dataset) -> None:
    for settings in ({"pears": 3}, {"pairs": "many"}, {3: 4}):
        card = {"step": 0, "settings": settings}
        with pytest.raises(ObdError, match="card"):
            evaluate(replace(synset_at(toy_dataset), card=card), policies=1, episodes=1)


def test_parameters_may_have_any_name(toy_dataset: Dataset) -> None:
    class Renamed:
        def __init__(self, inner: Architecture) -> None:
            self.inner = inner

        def act(self, params: Params, states: torch.Tensor) -> torch.Tensor:
            return self.inner.act({k.removeprefix("layer "): v for k, v in params.items()}, states)

    inner = get_architecture("mlp2")
    params = inner.init([seeded_generator(0), seeded_generator(1)], 11, 3)
    renamed = {f"layer {name}": value for name, value in params.items()}
    one, other = (
        students.BatchedActor(architecture, values, [toy_dataset.standardizer], episodes=1)
        for architecture, values in ((inner, params), (cast(Any, Renamed(inner)), renamed))
    )
    observations = np.random.default_rng(0).normal(size=(2, 11))
    slots = np.array([0, 1])
    assert np.array_equal(one(observations, slots), other(observations, slots))


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("defualt", {}, "default"),
        ("default", {"policy": 3}, "policies"),
        ("default", {"policies": 0}, "policies"),
        ("default", {"policies": True}, "policies"),
        ("default", {"policies": 2.0}, "policies"),
        ("default", {"lr": 0.0}, "lr"),
        ("cross-architecture", {"steps": 0}, "steps"),
        ("cross-optimizer", {"steps": 0}, "steps"),
        ("cross-optimizer", {"setting": "published"}, "as-run"),
        ("cross-optimizer", {"setting": "stated", "rates": {"adam": 0.2}}, "rates has no effect"),
        ("cross-optimizer", {"setting": "as-run", "rates": {"adam": 0.2}}, "rates has no effect"),
    ],
)
def test_wrong_calls_are_one_clear_line(name: str, params: dict[str, Any], words: str) -> None:
    with pytest.raises(ObdError, match=words):
        make_protocol(name, params)
