"""The score that a run tells is the score of its tables."""

from obdbench.results.headline import curves_of, mean_headline_score
from obdbench.results.record import Point, Result


def test_the_score_of_a_trial_is_that_of_the_tables(spec):
    points = [
        Point(seed=seed, step=step, arm=arm, returns=[[0.0]], normalized_return=seed + step / 10)
        for seed in (0, 1)
        for arm in ("mlp2", "mlp3")
        for step in (0, 40, 10, 20, 30, 50, 60)
    ]
    result = Result(key=spec().key, suite="toy", spec=spec(), status="ok", points=points)
    assert mean_headline_score(result) == 0.5 + 4.0
    assert mean_headline_score(result.model_copy(update={"points": []})) is None


def test_curves_are_in_the_order_of_steps(spec):
    points = [
        Point(seed=0, step=step, arm="mlp2", returns=[[0.0]], normalized_return=step / 10)
        for step in (20, 0, 10)
    ]
    result = Result(key=spec().key, suite="toy", spec=spec(), status="ok", points=points)
    assert curves_of(result) == {"mlp2": {0: ((0, 0.0), (10, 1.0), (20, 2.0))}}
