"""Execution settings: values out of bounds and unknown names are refused."""

import pytest

from obdbench.errors import InvalidSettingError, UnknownNameError
from obdbench.execution.config import ExecutionConfig


def test_an_unknown_executor_is_refused():
    with pytest.raises(UnknownNameError, match="Did you mean"):
        ExecutionConfig(executor="locale")


@pytest.mark.parametrize(
    "options",
    [
        *({"workers": 2.0}, {"threads": 1.5}, {"workers": 0}, {"memory": 0.0}),
        *({"grace": -1.0}, {"grace": float("nan")}, {"timeout": float("nan")}),
        *({"workers": "2"}, {"memory": "2"}, {"timeout": "2"}, {"grace": "2"}, {"threads": None}),
        {"existing": "resum"},
    ],
)
def test_values_out_of_bounds_are_refused(options):
    (name,) = options
    with pytest.raises(InvalidSettingError, match=f"^{name} is "):
        ExecutionConfig(**options)


def test_grace_may_be_zero():
    assert ExecutionConfig(grace=0).grace == 0


@pytest.mark.parametrize("word", ["x" * 1001, "\udcff"])
def test_arguments_that_no_file_can_hold_are_refused(word):
    with pytest.raises(InvalidSettingError, match="at most 1000 characters"):
        ExecutionConfig(command=("run", word))
