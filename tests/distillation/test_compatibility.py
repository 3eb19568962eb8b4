"""Which objectives solvers and state sources refuse before any data is read."""

from __future__ import annotations

import pytest

from obdbench.distillation.input_checks import check_compatible
from obdbench.distillation.settings import resolve_settings
from obdbench.errors import InvalidSettingError
from obdbench.experiments.suite import load_suite
from obdbench.objectives.objective import make_objective

OBJECTIVES = [make_objective(name) for name in ("random", "dbc", "pbc", "sdw", "q-pbc")]


@pytest.mark.parametrize(
    ("settings", "refused", "remedy"),
    [
        (resolve_settings("thorough"), "dbc", "set state_source=smoothed"),
        (resolve_settings("fast", {"solver": "label-solving"}), "q-pbc", "set solver=full"),
        (resolve_settings("fast", {"solver": "loss-matching"}), "q-pbc", "set solver=full"),
    ],
)
def test_an_objective_that_the_settings_do_not_support_is_named(settings, refused, remedy) -> None:
    with pytest.raises(InvalidSettingError, match=remedy) as caught:
        check_compatible(OBJECTIVES, [settings])
    named = [item.name for item in OBJECTIVES if f"{item.name!r}" in caught.value.cause]
    assert named == [refused]
    check_compatible([item for item in OBJECTIVES if item.name != refused], [settings])


def test_each_problem_is_stated_once() -> None:
    settings = resolve_settings("paper", {"solver": "loss-matching", "state_source": "imagined"})
    with pytest.raises(InvalidSettingError) as caught:
        check_compatible(OBJECTIVES, [settings, settings.model_copy(update={"pairs": 16})])
    message = str(caught.value)
    assert "\n" not in message
    for text in ("'dbc'", "noise 'published'", "state_source=smoothed", "noise=none"):
        assert message.count(text) == 1


def test_a_suite_with_one_such_row_is_refused_before_its_trials_exist() -> None:
    with pytest.raises(InvalidSettingError, match="'dbc'"):
        load_suite("quick").select(preset="thorough").specs()
    load_suite("quick").select(preset="thorough", objectives=["random", "pbc", "q-pbc"]).specs()
