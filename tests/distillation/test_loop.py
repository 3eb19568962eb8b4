"""The outer loop: seeds, resuming, evaluation points, presets, invalid input."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.toys import make_toy_dataset, make_toy_teacher

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.initialization import select_initial_pairs
from obdbench.distillation.loop import EvaluationPoint, Progress, distill_points
from obdbench.distillation.outer_optimizer import OuterOptimizer, learning_rate
from obdbench.distillation.settings import PRESETS, DistillSettings, resolve_settings
from obdbench.errors import InvalidDataError, InvalidSettingError, ObdError
from obdbench.objectives.objective import make_objective
from obdbench.selection.top_value import action_values
from obdbench.teachers.teacher import Teacher

VARIANTS: list[dict[str, Any]] = [
    {},
    {"noise": "exact"},
    {"noise": "published"},
    {"draws": 2},
    {"inner_optimizer": "adam", "inner_lr": 0.001, "architecture": "mlp2"},
    {"architecture": "residual"},
    {"solver": "truncated", "window": 3},
    {"solver": "random-truncated", "window": 3},
    {"outer_optimizer": "sgd", "schedule": "constant", "clip": 2.0},
    {"init": "kmeans++"},
    {"init": "top-q"},
]


def tiny(**overrides: Any) -> DistillSettings:
    base = {"pairs": 8, "inner_steps": 4, "steps": 6, "batch": 32, "evaluate_at": (0, 0.5, 1)}
    return resolve_settings("tiny", {**base, **overrides})


def points(
    dataset: Dataset, teacher: Teacher, settings: DistillSettings, seeds: list[int], **more: Any
) -> list[EvaluationPoint]:
    return list(distill_points(dataset, teacher, make_objective("pbc"), settings, seeds, **more))


def have_equal_synsets(first: EvaluationPoint, second: EvaluationPoint) -> bool:
    return first.step == second.step and all(
        np.array_equal(a.states, b.states) and np.array_equal(a.actions, b.actions)
        for a, b in zip(first.synsets, second.synsets, strict=True)
    )


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"objective": "dbc"}, "differs in objective"),
        ({"objective": "av-pbc", "beta": 0.5}, "differs in objective"),
        ({"steps": 4}, "differs in settings"),
        ({"outer_lr": 0.1}, "differs in settings"),
        ({"seed": 1}, "differs in seeds"),
    ],
    ids=str,
)
def test_snapshot_of_another_distillation_is_refused(
    changes: dict[str, Any],
    difference: str,
    toy_dataset: Dataset,
    toy_teacher: Teacher,
    tmp_path: Path,
) -> None:
    snapshot = tmp_path / "snapshot"

    def distill(seed: int = 0, objective: str = "pbc", beta: float = 0.0, **settings: Any) -> None:
        params = {"beta": beta} if beta else {}
        run = distill_points(
            toy_dataset,
            toy_teacher,
            make_objective(objective, params),
            tiny(**settings),
            [seed],
            snapshot=snapshot,
        )
        list(run)

    distill()
    distill(evaluate_at=(0.0, 1.0))
    with pytest.raises(ObdError, match=difference):
        distill(**changes)


@pytest.mark.parametrize("overrides", VARIANTS, ids=str)
def test_resumed_distillation_gives_the_same_bits(
    overrides: dict[str, Any], toy_dataset: Dataset, toy_teacher: Teacher, tmp_path: Path
) -> None:
    settings = tiny(**overrides)
    uninterrupted = points(toy_dataset, toy_teacher, settings, [0, 1])
    assert [point.step for point in uninterrupted] == [0, 3, 6]
    snapshot = tmp_path / "snapshot"
    interrupted = distill_points(
        toy_dataset,
        toy_teacher,
        make_objective("pbc"),
        settings,
        [0, 1],
        snapshot=snapshot,
        snapshot_seconds=0.0,
        progress=lambda now: interrupt_at(now, 5),
        progress_seconds=0.0,
    )
    with pytest.raises(KeyboardInterrupt):
        list(interrupted)
    resumed = points(toy_dataset, toy_teacher, settings, [0, 1], snapshot=snapshot)
    assert len(resumed) == len(uninterrupted)
    for left_point, right_point in zip(uninterrupted, resumed, strict=True):
        assert have_equal_synsets(left_point, right_point)
        assert left_point.losses == right_point.losses
    again = points(toy_dataset, toy_teacher, settings, [0, 1], snapshot=snapshot)
    assert all(
        have_equal_synsets(left_point, right_point)
        for left_point, right_point in zip(uninterrupted, again, strict=True)
    )


def test_rate_of_progress_excludes_the_time_between_evaluation_points(
    toy_dataset: Dataset, toy_teacher: Teacher
) -> None:
    reports: list[Progress] = []
    run = distill_points(
        toy_dataset,
        toy_teacher,
        make_objective("pbc"),
        tiny(),
        [0],
        progress=reports.append,
        progress_seconds=0.0,
    )
    for point in run:
        if point.step == 3:
            time.sleep(0.5)  # as scoring does
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6]
    assert reports[3].steps_per_second > 2.0


def interrupt_at(now: Progress, step: int) -> None:
    if now.step == step:
        raise KeyboardInterrupt


@pytest.mark.parametrize("overrides", VARIANTS[:6], ids=str)
def test_seeds_distilled_together_equal_seeds_distilled_alone(
    overrides: dict[str, Any], toy_dataset: Dataset, toy_teacher: Teacher
) -> None:
    settings = tiny(**overrides)
    together = points(toy_dataset, toy_teacher, settings, [4, 2, 9], dtype=torch.float64)
    alone = points(toy_dataset, toy_teacher, settings, [2], dtype=torch.float64)
    for left_point, right_point in zip(together, alone, strict=True):
        assert np.allclose(left_point.synsets[1].states, right_point.synsets[0].states, atol=1e-6)
        assert np.allclose(left_point.synsets[1].actions, right_point.synsets[0].actions, atol=1e-6)
    assert not np.allclose(together[0].synsets[0].states, together[0].synsets[1].states)


@pytest.mark.parametrize("objective", ["dbc", "pbc", "av-pbc"])
def test_distillation_lowers_the_objective(
    objective: str, toy_dataset: Dataset, toy_teacher: Teacher
) -> None:
    settings = tiny(pairs=16, inner_steps=10, steps=25, batch=256, outer_lr=0.1, evaluate_at=(1,))
    run = distill_points(
        toy_dataset, toy_teacher, make_objective(objective), settings, [0], dtype=torch.float64
    )
    curve = [loss for _, loss in list(run)[-1].losses[0]]
    assert np.mean(curve[-5:]) < 0.93 * np.mean(curve[:3])


def test_random_objective_returns_real_pairs(toy_dataset: Dataset) -> None:
    (point,) = list(
        distill_points(toy_dataset, None, make_objective("random"), tiny(steps=100), [0])
    )
    assert point.step == 0
    rows = {tuple(row) for row in toy_dataset.states}
    assert all(tuple(row) in rows for row in point.synsets[0].states)


@pytest.mark.parametrize("method", ["random", "kmeans++", "top-q"])
def test_initial_pairs_are_distinct_real_pairs(
    method: str, toy_dataset: Dataset, toy_teacher: Teacher
) -> None:
    rngs = [np.random.default_rng(0)]
    ((states, actions),) = select_initial_pairs(
        make_objective("dbc"), tiny(init=method, pairs=50), toy_dataset, toy_teacher, rngs
    )
    actions_of_state = {
        tuple(s): tuple(a) for s, a in zip(toy_dataset.states, toy_dataset.actions, strict=True)
    }
    assert len({tuple(s) for s in states}) == 50
    assert all(actions_of_state[tuple(s)] == tuple(a) for s, a in zip(states, actions, strict=True))


def test_kmeans_covers_the_states_better_and_top_q_has_higher_values(
    toy_dataset: Dataset, toy_teacher: Teacher
) -> None:
    def selected(method: str) -> tuple[np.ndarray, np.ndarray]:
        rngs = [np.random.default_rng(1)]
        return select_initial_pairs(
            make_objective("dbc"), tiny(init=method, pairs=20), toy_dataset, toy_teacher, rngs
        )[0]

    def mean_distance(states: np.ndarray) -> float:
        return float(
            np.linalg.norm(toy_dataset.states[:, None] - states[None], axis=-1).min(1).mean()
        )

    assert mean_distance(selected("kmeans++")[0]) < mean_distance(selected("random")[0])

    def value(pair: tuple[np.ndarray, np.ndarray]) -> float:
        raw = toy_dataset.standardizer.invert(pair[0])
        return float(toy_teacher.value(raw, pair[1]).mean())

    assert value(selected("top-q")) > value(selected("random"))


@pytest.mark.parametrize("method", ["random", "kmeans++", "top-q"])
def test_initial_pairs_do_not_depend_on_other_seeds(
    method: str, toy_dataset: Dataset, toy_teacher: Teacher
) -> None:
    def pairs(*seeds: int) -> list[tuple[np.ndarray, np.ndarray]]:
        rngs = [np.random.default_rng(seed) for seed in seeds]
        return select_initial_pairs(
            make_objective("dbc"), tiny(init=method, pairs=20), toy_dataset, toy_teacher, rngs
        )

    together = pairs(0, 1, 2)
    assert np.array_equal(together[1][0], pairs(1)[0][0])
    assert not np.array_equal(together[0][0], together[1][0])


def test_teacher_values_the_data_once_for_all_seeds(
    toy_dataset: Dataset, toy_teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    value = Teacher.value

    def counting_value(self: Teacher, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        calls.append(len(observations))
        return value(self, observations, actions)

    monkeypatch.setattr(Teacher, "value", counting_value)
    action_values.cache_clear()
    rngs = [np.random.default_rng(seed) for seed in range(3)]
    select_initial_pairs(make_objective("dbc"), tiny(init="top-q"), toy_dataset, toy_teacher, rngs)
    assert calls == [len(toy_dataset)]


def test_outer_optimizers_agree_with_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(1, 4, 3, generator=generator, dtype=torch.float64)
    references = {
        "adam": lambda p: torch.optim.Adam([p], lr=0.01),
        "sgd": lambda p: torch.optim.SGD([p], lr=0.01, momentum=0.9),
    }
    for name, build in references.items():
        settings = tiny(outer_optimizer=name, outer_lr=0.01, schedule="constant")
        reference, ours = start.clone().requires_grad_(), start.clone()
        torch_optimizer, optimizer = build(reference), OuterOptimizer(settings)
        for step in range(12):
            torch_optimizer.zero_grad()
            reference.pow(4).sum().backward()
            torch_optimizer.step()
            optimizer.update(step, [ours], [4 * ours**3])
        assert torch.allclose(ours, reference.detach(), rtol=1e-9)


def test_clip_bounds_the_joint_norm_of_each_seed() -> None:
    optimizer = OuterOptimizer(
        tiny(outer_optimizer="sgd", outer_lr=1.0, schedule="constant", clip=2.0)
    )
    x, a = torch.zeros(2, 1, 1), torch.zeros(2, 1, 1)
    gx, ga = torch.tensor([[[3.0]], [[0.3]]]), torch.tensor([[[4.0]], [[0.4]]])
    optimizer.update(0, [x, a], [gx, ga])
    assert torch.allclose(x.flatten(), torch.tensor([-1.2, -0.3]))
    assert torch.allclose(a.flatten(), torch.tensor([-1.6, -0.4]))


def test_cosine_schedule_ends_at_zero() -> None:
    settings = tiny(steps=100, outer_lr=0.2, schedule="cosine")
    rates = [learning_rate(settings, step) for step in (0, 50, 100)]
    assert rates == pytest.approx([0.2, 0.1, 0.0])


def test_presets_are_valid_and_paper_has_the_published_values() -> None:
    for name in PRESETS:
        assert resolve_settings(name).pairs > 0
    exact = resolve_settings("exact")
    assert (exact.steps, exact.kernel_steps, exact.guard_interval) == (400, 0, 50)
    paper = resolve_settings("paper")
    assert (paper.pairs, paper.inner_steps, paper.inner_lr, paper.batch) == (256, 100, 0.1, 2560)
    assert (paper.outer_optimizer, paper.outer_lr, paper.momentum) == ("sgd", 0.1, 0.9)
    assert (paper.clip, paper.noise, paper.schedule) == (2.0, "published", "constant")


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"pairs": 0}, "pairs"),
        ({"stepps": 3}, "steps"),
        ({"inner_lr": -1}, "inner_lr"),
        ({"solver": "truncated"}, "window"),
        ({"solver": "truncated", "window": 1000}, "window"),
        ({"window": 3}, "no effect on the solver 'full'"),
        ({"evaluate_at": ()}, "evaluate_at"),
        ({"init": "best"}, "selection method"),
    ],
)
def test_invalid_settings_are_one_line_errors(overrides: dict[str, Any], named: str) -> None:
    with pytest.raises(ObdError, match=named) as caught:
        resolve_settings("fast", overrides)
    assert "\n" not in str(caught.value)


def test_more_pairs_than_transitions_are_an_error(toy_dataset: Dataset) -> None:
    with pytest.raises(ObdError, match="more than the 600"):
        points(toy_dataset, None, tiny(pairs=601), [0])  # type: ignore[arg-type]


def test_damaged_snapshot_is_an_error(
    toy_dataset: Dataset, toy_teacher: Teacher, tmp_path: Path
) -> None:
    snapshot = tmp_path / "snapshot.safetensors"
    snapshot.write_bytes(b"not a snapshot")
    with pytest.raises(ObdError, match="snapshot"):
        points(toy_dataset, toy_teacher, tiny(), [0], snapshot=snapshot)
    snapshot.unlink()
    points(toy_dataset, toy_teacher, tiny(), [0], snapshot=snapshot)
    with pytest.raises(ObdError, match="differs in settings"):
        points(toy_dataset, toy_teacher, tiny(pairs=9), [0], snapshot=snapshot)


def test_evaluation_point_that_the_snapshot_has_passed_is_an_error(
    toy_dataset: Dataset, toy_teacher: Teacher, tmp_path: Path
) -> None:
    import obdbench

    def distill(*evaluate_at: float) -> obdbench.Synset:
        return obdbench.distill(
            toy_dataset,
            toy_teacher,
            "pbc",
            preset="tiny",
            snapshot=str(tmp_path / "snapshot"),
            progress=False,
            evaluate_at=evaluate_at,
        )

    assert distill(0.0, 1.0).card["step"] == 4
    for evaluate_at in ((0.0, 0.5), (0.5,), (0.5, 1.0)):
        with pytest.raises(ObdError, match="no synset of step 2"):
            distill(*evaluate_at)
    assert distill(0.0).card["step"] == 0
    assert distill(1.0).card["step"] == 4


def test_error_names_a_column_of_the_wrong_length(toy_dataset: Dataset) -> None:
    objective = make_objective("dbc")
    objective.prepare = lambda *_: {"weight": torch.ones(3)}  # type: ignore[method-assign]
    with pytest.raises(ObdError, match="'weight' has 3 rows"):
        list(distill_points(toy_dataset, None, objective, tiny(), [0]))


def test_distill_takes_identifiers() -> None:
    import obdbench

    name = "embedded/hopper-medium-replay-v1"
    settings: dict[str, Any] = {"preset": "tiny", "steps": 1, "progress": False}
    dataset, teacher = obdbench.load_dataset(name), obdbench.load_teacher(name)
    loaded = obdbench.distill(dataset, teacher, "pbc", **settings)
    by_name = obdbench.distill(name, teacher, "pbc", **settings)
    assert np.array_equal(by_name.states, loaded.states)
    assert repr(loaded) == "<Synset hopper, 16 pairs, pbc>"
    assert repr(dataset) == f"<Dataset {name}, 100,047 transitions>"
    assert repr(teacher) == f"<Teacher {name}>"
    with pytest.raises(ObdError, match="td4"):
        obdbench.distill(name, "td4", "pbc", **settings)
    with pytest.raises(InvalidSettingError, match="seed"):
        obdbench.distill(name, teacher, "pbc", seed=1.5, **settings)


def test_distill_returns_the_last_synset(toy_dataset: Dataset, toy_teacher: Teacher) -> None:
    import obdbench

    synset = obdbench.distill(toy_dataset, toy_teacher, "pbc", preset="tiny", progress=False)
    assert len(synset) == 16
    assert synset.card["objective"] == "pbc"


@pytest.mark.parametrize("task", ["walker2d", "hopper"])
def test_teacher_of_another_task_is_refused(task: str) -> None:
    """The sizes of walker2d and halfcheetah are the same, so its identifier decides."""
    teacher = replace(make_toy_teacher(make_toy_dataset(60, task)), id=f"embedded/{task}-medium-v1")
    dataset = make_toy_dataset(60, "halfcheetah")
    with pytest.raises(InvalidDataError, match=rf"{task}-medium-v1.*halfcheetah"):
        points(dataset, teacher, tiny(), [0])
