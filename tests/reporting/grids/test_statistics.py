"""Statistics: against scipy where it has the same quantity, and against hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from obdbench.reporting.grids import statistics as stats

SCORE = st.floats(-20, 120, allow_nan=False).map(lambda value: round(value, 3))
GROUP = st.lists(SCORE, min_size=2, max_size=7)
GROUPS = st.lists(GROUP, min_size=1, max_size=9)


@given(GROUPS)
def test_iqm_is_scipys_trimmed_mean(groups):
    flat = np.concatenate([np.asarray(group) for group in groups])
    ours = float(stats.interquartile_mean(stats.as_arrays(groups)))
    assert ours == pytest.approx(float(oracle.trim_mean(flat, 0.25)), abs=1e-9)


def test_iqm_removes_a_quarter_at_each_end():
    assert float(stats.interquartile_mean(stats.as_arrays([[0.0, 1.0], [2.0, 100.0]]))) == 1.5
    assert float(stats.interquartile_mean(stats.as_arrays([[0.0, 1.0, 50.0]]))) == 17.0


@pytest.mark.filterwarnings("ignore:Precision loss")
@settings(deadline=None)
@given(GROUP)
def test_mean_and_deviation(values):
    mean, spread = stats.mean_std(values)
    assert mean == pytest.approx(np.mean(values))
    assert spread == pytest.approx(float(oracle.tstd(values)), abs=1e-9)


def test_one_seed_has_no_deviation():
    assert stats.mean_std([3.0]) == (3.0, None)
    with pytest.raises(ValueError, match="at least one value"):
        stats.mean_std([])


def test_average_weighs_datasets_not_seeds():
    assert stats.grand_mean([[0.0, 0.0, 0.0, 0.0], [10.0]]) == 5.0


@given(GROUP, GROUP)
def test_improvement_is_the_mann_whitney_statistic(ours, theirs):
    expected = oracle.mannwhitneyu(ours, theirs).statistic / (len(ours) * len(theirs))
    probability = float(
        stats.probability_of_improvement(stats.as_arrays([ours]), stats.as_arrays([theirs]))
    )
    assert probability == pytest.approx(expected)


@given(GROUP, GROUP)
def test_improvement_of_one_is_decline_of_the_other(ours, theirs):
    a, b = stats.as_arrays([ours]), stats.as_arrays([theirs])
    assert float(stats.probability_of_improvement(a, b)) + float(
        stats.probability_of_improvement(b, a)
    ) == pytest.approx(1.0)


def test_improvement_averages_datasets():
    ours, theirs = stats.as_arrays([[2.0, 2.0], [1.0]]), stats.as_arrays([[1.0], [1.0, 3.0]])
    assert float(stats.probability_of_improvement(ours, theirs)) == pytest.approx((1.0 + 0.25) / 2)


@settings(max_examples=30)
@given(st.lists(st.floats(-30, 30).map(lambda v: round(v, 3)), min_size=3, max_size=8))
def test_paired_interval_is_scipys_for_one_dataset(differences):
    if np.ptp(differences) < 1e-3:
        return
    expected = oracle.ttest_1samp(differences, 0.0).confidence_interval(0.95)
    interval = stats.mean_interval([differences])
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), rel=1e-4)


def test_paired_interval_over_datasets_follows_welch():
    """With signs turned, two datasets' mean difference is half of Welch's two-sample difference."""
    first, second = [1.0, 2.0, 4.0, 4.5], [-0.5, -3.0, -1.0]
    interval = stats.mean_interval([first, second])
    turned = [-value for value in second]
    welch = oracle.ttest_ind(first, turned, equal_var=False).confidence_interval(0.95)
    assert interval.low == pytest.approx(welch.low / 2, rel=1e-4)
    assert interval.high == pytest.approx(welch.high / 2, rel=1e-4)


def test_paired_interval_needs_two_seeds_and_shrinks_to_a_point():
    single = stats.mean_interval([[1.0], [2.0, 3.0]])
    assert (single.low, single.high) == (None, None)
    still = stats.mean_interval([[2.0, 2.0], [4.0, 4.0]])
    assert (still.low, still.estimate, still.high) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize("scale", [1.0, 1e-90])
def test_two_seeds_of_one_dataset_have_one_degree_of_freedom(scale: float) -> None:
    """Rounding and underflow leave it at one."""
    interval = stats.mean_interval([[-23.6526 * scale, 12.4078 * scale]])
    assert interval.high is not None
    reach = (12.4078 + 23.6526) / 2 * np.tan(0.475 * np.pi) * scale
    assert interval.high - interval.estimate == pytest.approx(reach, rel=1e-6)


def test_bootstrap_agrees_with_scipys():
    values = np.random.default_rng(1).normal(40.0, 5.0, size=30)
    interval = stats.bootstrap_interval(
        stats.mean_over_datasets, [values.tolist()], replicates=20_000
    )
    expected = oracle.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert interval.low == pytest.approx(expected.low, rel=2e-3)
    assert interval.high == pytest.approx(expected.high, rel=2e-3)


def test_bootstrap_is_stratified():
    """Datasets far apart, seeds close: resampling across datasets would blow the interval up."""
    interval = stats.bootstrap_interval(
        stats.mean_over_datasets, [[0.0, 0.1, 0.2], [100.0, 100.1, 100.2]]
    )
    assert 49.9 < interval.low < interval.estimate < interval.high < 50.3


@given(GROUPS)
@settings(max_examples=20)
def test_bootstrap_is_repeatable_and_brackets_its_estimate(groups):
    first = stats.bootstrap_interval(stats.mean_over_datasets, groups)
    for size in range(8, 28):  # draws are cached by the sizes of the groups
        stats.bootstrap_interval(stats.mean_over_datasets, [[0.0] * size], replicates=2)
    assert first == stats.bootstrap_interval(stats.mean_over_datasets, groups)
    assert first.low - 1e-9 <= first.estimate <= first.high + 1e-9


def test_datasets_are_resampled_independently():
    """Two datasets alike average their chance: the interval shrinks by the root of two."""
    scores = [np.random.default_rng(5).normal(size=12).tolist()]
    single, double = (
        stats.bootstrap_interval(stats.mean_over_datasets, groups)
        for groups in (scores, scores * 2)
    )
    assert (double.high - double.low) / (single.high - single.low) == pytest.approx(0.707, abs=0.06)


def test_the_bootstrap_interval_has_its_nominal_coverage():
    """The nominal 95% interval of a mean of 20 covers the truth in 88 to 98 of 100 samples."""
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(200):
        interval = stats.bootstrap_interval(
            stats.mean_over_datasets, [rng.normal(size=20).tolist()], replicates=500
        )
        hits += interval.low <= 0.0 <= interval.high
    assert 176 <= hits <= 196


def test_one_seed_gives_no_bounds():
    assert stats.bootstrap_interval(
        stats.interquartile_mean, [[1.0], [2.0, 3.0]]
    ) == stats.Interval(2.0)


def test_empty_groups_are_refused():
    for groups in ([], [[]], [[1.0], []]):
        with pytest.raises(ValueError, match="at least one dataset"):
            stats.as_arrays(groups)


def test_performance_profile_is_the_share_of_seeds_above_each_threshold():
    thresholds = np.array([0.0, 1.0, 2.0, 5.0])
    shares = stats.performance_profile(thresholds)(stats.as_arrays([[1.0, 2.0], [3.0]]))
    assert shares.tolist() == [1.0, 0.75, 0.5, 0.0]
    many = stats.bootstrap_replicates(
        stats.performance_profile(thresholds), [[[1.0, 2.0], [3.0, 3.0]]], 100
    )
    assert many.shape == (4, 100)
    assert set(np.unique(many)) <= {0.0, 0.25, 0.5, 0.75, 1.0}
