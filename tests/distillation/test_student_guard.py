"""Checks of real students, and the early end of an infinite-width phase that they cause."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.toys import make_toy_dataset, make_toy_teacher

from obdbench.datasets.dataset import Dataset
from obdbench.distillation import student_check
from obdbench.distillation.batch_sampler import BatchSampler
from obdbench.distillation.loop import EvaluationPoint, Progress, distill_points
from obdbench.distillation.settings import resolve_settings
from obdbench.distillation.student_check import StudentCheck, StudentEvaluator
from obdbench.distillation.student_cloning import clone_students
from obdbench.distillation.student_guard import phase_should_end
from obdbench.errors import InvalidSettingError
from obdbench.objectives.objective import make_objective
from obdbench.policies.networks import seeded_generator
from obdbench.teachers.teacher import Teacher

GUARD: dict[str, Any] = {
    "guard_interval": 10,
    "guard_states": 128,
    "guard_max_rise": 0.3,
}
LENIENT = {**GUARD, "guard_max_rise": 1e6}
INFINITE_WIDTH_STEPS = 60
LEAVING_THE_LIMIT: dict[str, Any] = {
    "pairs": 32,
    "inner_steps": 40,
    "inner_lr": 0.15,
    "steps": INFINITE_WIDTH_STEPS + 2,
    "kernel_share": INFINITE_WIDTH_STEPS / (INFINITE_WIDTH_STEPS + 2),
    "kernel_batch": 128,
    "kernel_lr": 0.5,
    "schedule": "constant",
    "evaluate_at": (0.0, 0.5, 1.0),
}
SMALL_STUDENTS = {
    **LEAVING_THE_LIMIT,
    "architecture": "mlp3",
    "inner_steps": 20,
    "inner_lr": 0.3,
}


@pytest.fixture
def steep_teacher(toy_dataset: Dataset) -> Teacher:
    """A teacher whose actions mostly lie near -1 and 1, so that imitation needs large weights."""
    teacher = make_toy_teacher(toy_dataset)
    *hidden, (weight, bias) = teacher.actor
    return replace(teacher, actor=(*hidden, (8 * weight, bias)))


def distill(
    dataset: Dataset,
    teacher: Teacher | None,
    *,
    objective: str = "pbc",
    seeds: tuple[int, ...] = (0,),
    options: dict[str, Any] | None = None,
    **overrides: Any,
) -> list[EvaluationPoint]:
    settings = resolve_settings("tiny", overrides)
    return list(
        distill_points(
            dataset,
            teacher,
            make_objective(objective),
            settings,
            list(seeds),
            **(options or {}),
        )
    )


def have_equal_synsets(left: list[EvaluationPoint], right: list[EvaluationPoint]) -> bool:
    return [point.step for point in left] == [point.step for point in right] and all(
        np.array_equal(a.states, b.states) and np.array_equal(a.actions, b.actions)
        for first, second in zip(left, right, strict=True)
        for a, b in zip(first.synsets, second.synsets, strict=True)
    )


def test_phase_ends_when_students_leave_the_limit(
    toy_dataset: Dataset, steep_teacher: Teacher
) -> None:
    """The objective in the limit falls, cloned students get worse, and the best synset is kept."""
    unguarded = distill(toy_dataset, steep_teacher, **LEAVING_THE_LIMIT, **LENIENT)[-1]
    guarded = distill(toy_dataset, steep_teacher, **LEAVING_THE_LIMIT, **GUARD)[-1]
    assert unguarded.ended == {}
    ended = guarded.ended[0]
    assert ended < INFINITE_WIDTH_STEPS
    before, after = guarded.checks[0], unguarded.checks[0]
    assert before[-1].missed_variance < after[-1].missed_variance - GUARD["guard_max_rise"]
    best = min(before, key=lambda check: check.missed_variance)
    at_best, at_end = (dict(unguarded.losses[0])[step] for step in (best.step, ended - 1))
    assert at_end < at_best
    assert guarded.synsets[0].card["infinite_width_ended_at"] == ended
    assert guarded.synsets[0].card["student_checks"][0]["step"] == 0


def test_skipped_evaluation_points_hold_the_best_synset(
    toy_dataset: Dataset, steep_teacher: Teacher
) -> None:
    settings = {**LEAVING_THE_LIMIT, "steps": INFINITE_WIDTH_STEPS, "kernel_share": 1.0}
    guarded = distill(toy_dataset, steep_teacher, **settings, **GUARD)
    best = min(guarded[-1].checks[0], key=lambda check: check.missed_variance)
    fractions = (best.step / INFINITE_WIDTH_STEPS,)
    (expected,) = distill(toy_dataset, steep_teacher, **{**settings, "evaluate_at": fractions})
    assert [point.step for point in guarded] == [0, 30, 60]
    assert np.array_equal(guarded[-1].synsets[0].states, expected.synsets[0].states)
    assert np.array_equal(guarded[-1].synsets[0].actions, expected.synsets[0].actions)


def test_a_run_interrupted_at_a_skipped_point_resumes(
    toy_dataset: Dataset, steep_teacher: Teacher, tmp_path: Path
) -> None:
    """Several evaluation points are skipped at once, and the run stops at the first of them."""
    fractions = {"evaluate_at": (0.0, 0.5, 0.75, 0.9, 1.0)}
    settings = resolve_settings("tiny", {**LEAVING_THE_LIMIT, **GUARD, **fractions})

    def points() -> Iterator[EvaluationPoint]:
        snapshot = tmp_path / "snapshot"
        objective = make_objective("pbc")
        return distill_points(
            toy_dataset, steep_teacher, objective, settings, [0], snapshot=snapshot
        )

    interrupted = points()
    assert [next(interrupted).step for _ in range(2)] == [0, 31]
    interrupted.close()
    resumed = list(points())
    assert [point.step for point in resumed] == settings.evaluation_steps
    assert have_equal_synsets(
        resumed, distill(toy_dataset, steep_teacher, **LEAVING_THE_LIMIT | GUARD | fractions)
    )


@pytest.mark.parametrize("objective", ["pbc", "dbc", "av-pbc"])
@pytest.mark.parametrize(
    "overrides",
    [{"kernel_share": 0.5}, {"noise": "published", "draws": 2}, {"kernel_share": 1.0}],
    ids=str,
)
def test_guard_that_does_not_act_changes_no_bit(
    overrides: dict[str, Any], objective: str, toy_dataset: Dataset, toy_teacher: Teacher
) -> None:
    settings = {"pairs": 8, "inner_steps": 4, "steps": 8, "smoothing": 0.2, **overrides}
    guard = {**GUARD, "guard_interval": 2}
    teacher = None if objective == "dbc" else toy_teacher
    options = {"objective": objective, "seeds": (0, 1)}
    guarded = distill(toy_dataset, teacher, **options, **settings, **guard)
    unguarded = distill(toy_dataset, teacher, **options, **settings)
    assert have_equal_synsets(guarded, unguarded)
    assert guarded[-1].losses == unguarded[-1].losses
    assert [[check.step for check in checks] for checks in guarded[-1].checks] == [
        [0, 2, 4, 6, 8],
        [0, 2, 4, 6, 8],
    ]
    assert unguarded[-1].checks == []
    assert "student_checks" not in unguarded[-1].synsets[0].card


def test_students_with_noise_learn_at_the_same_rate_as_alone() -> None:
    settings = resolve_settings("tiny", {"noise": "published", "architecture": "mlp2"})
    x, a = torch.randn(8, 4), torch.rand(8, 2)
    together = clone_students(settings, x, a, [seeded_generator(1), seeded_generator(2)])
    for index, seed in enumerate((1, 2)):
        alone = clone_students(settings, x, a, [seeded_generator(seed)])
        for name, tensor in alone.items():
            torch.testing.assert_close(together[name][index], tensor[0], rtol=1e-4, atol=1e-6)


def test_cards_do_not_state_a_later_end(toy_dataset: Dataset, steep_teacher: Teacher) -> None:
    points = distill(toy_dataset, steep_teacher, **SMALL_STUDENTS, **GUARD)
    end = points[-1].ended[0]
    for point in points:
        assert point.ended == ({0: end} if end <= point.step else {})


def test_seeds_checked_together_equal_seeds_checked_alone(
    toy_dataset: Dataset, steep_teacher: Teacher
) -> None:
    options = {"dtype": torch.float64}
    together = distill(
        toy_dataset, steep_teacher, seeds=(0, 1), options=options, **SMALL_STUDENTS, **GUARD
    )
    assert together[-1].ended.keys() == {0, 1}
    for index in (0, 1):
        alone = distill(
            toy_dataset,
            steep_teacher,
            seeds=(index,),
            options=options,
            **SMALL_STUDENTS,
            **GUARD,
        )
        assert together[-1].ended.get(index) == alone[-1].ended.get(0)
        steps = [check.step for check in alone[-1].checks[0]]
        assert [check.step for check in together[-1].checks[index]] == steps
        stacked, single = together[-1].synsets[index], alone[-1].synsets[0]
        assert np.allclose(stacked.states, single.states, atol=1e-4)
        assert np.allclose(stacked.actions, single.actions, atol=1e-4)


@pytest.mark.parametrize("stop", [25, 61])
def test_guarded_distillation_resumes_bit_for_bit(
    stop: int, toy_dataset: Dataset, steep_teacher: Teacher, tmp_path: Path
) -> None:
    def interrupt(now: Progress) -> None:
        if now.step >= stop:
            raise KeyboardInterrupt

    uninterrupted = distill(toy_dataset, steep_teacher, seeds=(0, 1), **SMALL_STUDENTS, **GUARD)
    options = {"snapshot": tmp_path / "snapshot", "snapshot_seconds": 0.0}
    interrupting = {**options, "progress": interrupt, "progress_seconds": 0.0}
    with pytest.raises(KeyboardInterrupt):
        distill(
            toy_dataset,
            steep_teacher,
            seeds=(0, 1),
            options=interrupting,
            **SMALL_STUDENTS,
            **GUARD,
        )
    resumed = distill(
        toy_dataset, steep_teacher, seeds=(0, 1), options=options, **SMALL_STUDENTS, **GUARD
    )
    assert uninterrupted[-1].ended
    assert have_equal_synsets(uninterrupted, resumed)
    assert uninterrupted[-1].checks == resumed[-1].checks
    assert uninterrupted[-1].ended == resumed[-1].ended


def test_unweighted_objective_misses_the_same_share_as_the_variance(
    toy_dataset: Dataset, toy_teacher: Teacher
) -> None:
    def last_check(objective: str) -> StudentCheck:
        points = distill(toy_dataset, toy_teacher, objective=objective, steps=2, **GUARD)
        return points[-1].checks[0][-1]

    plain, weighted = last_check("pbc"), last_check("av-pbc")
    assert plain.missed_objective == pytest.approx(plain.missed_variance, rel=1e-4)
    assert weighted.missed_objective != pytest.approx(weighted.missed_variance, rel=1e-3)


def test_progress_shows_the_missed_variance(toy_dataset: Dataset, toy_teacher: Teacher) -> None:
    reports: list[Progress] = []
    options = {"progress": reports.append, "progress_seconds": 0.0}
    points = distill(toy_dataset, toy_teacher, options=options, **{**GUARD, "guard_interval": 1})
    assert reports[0].missed_variance == points[-1].checks[0][0].missed_variance
    assert len(reports) == 4


@pytest.mark.parametrize(
    ("variance", "objective", "expected"),
    [
        ([0.9, 0.2, 0.6, 0.7], [0.9, 0.2, 0.6, 0.7], True),
        ([0.9, 0.2, 0.6, 0.4], [0.9, 0.2, 0.6, 0.4], False),
        ([0.9, 0.2, 0.6, 0.7], [0.9, 0.8, 0.7, 0.6], False),
        ([0.9, 0.2, 0.6, float("inf")], [0.9, 0.2, 0.6, float("inf")], True),
        ([0.2, 0.9], [0.2, 0.9], False),
    ],
    ids=["both rise", "too small a rise", "only the variance", "diverged", "too few checks"],
)
def test_phase_ends_if_both_measures_rise_in_consecutive_checks(
    variance: list[float], objective: list[float], expected: bool
) -> None:
    checks = [
        StudentCheck(i, *values) for i, values in enumerate(zip(variance, objective, strict=True))
    ]
    assert phase_should_end(checks, resolve_settings("tiny", GUARD)) == expected


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("guard_interval", -1),
        ("guard_students", 0),
        ("guard_states", 0),
        ("guard_patience", 0),
        ("guard_max_rise", -0.1),
        ("guard_max_rise", float("inf")),
    ],
)
def test_invalid_guard_settings_are_refused(setting: str, value: float) -> None:
    with pytest.raises(InvalidSettingError, match=setting):
        resolve_settings("tiny", {setting: value})


@pytest.mark.parametrize("objective", [make_objective("pbc"), make_objective("q-pbc")])
def test_a_student_with_the_actions_of_the_teacher_misses_nothing(monkeypatch, objective):
    """All columns of the teacher are those of the held-out states, not of the dataset's."""
    dataset = make_toy_dataset()
    teacher = make_toy_teacher(dataset)
    settings = resolve_settings("tiny", {"guard_states": 32, "smoothing": 0.5})
    columns = objective.prepare(dataset, teacher, np.random.default_rng(0))
    sampler = BatchSampler.from_dataset(dataset, columns, "cpu")
    evaluator = StudentEvaluator(dataset, teacher, objective, sampler.columns, settings)
    architecture = SimpleNamespace(act=lambda params, states: evaluator.batch.teacher_actions)
    monkeypatch.setattr(student_check, "get_architecture", lambda name: architecture)
    pairs = torch.zeros(4, dataset.observation_size), torch.zeros(4, dataset.action_size)
    check = evaluator.check(*pairs, seed=0, step=0)
    assert check.missed_variance == pytest.approx(0.0, abs=1e-6)
    assert check.missed_objective == pytest.approx(0.0, abs=1e-6)


def test_students_of_dbc_are_compared_with_the_data_though_a_teacher_labels_the_start(
    toy_dataset: Dataset,
) -> None:
    teacher = make_toy_teacher(toy_dataset)
    checks = [
        distill(toy_dataset, given, objective="dbc", guard_interval=1, steps=1)[-1]
        .synsets[0]
        .card["student_checks"]
        for given in (teacher, None)
    ]
    assert checks[0] == checks[1]
