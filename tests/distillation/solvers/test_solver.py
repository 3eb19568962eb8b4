"""The registry of solvers: names, default settings, refusals, keys."""

from __future__ import annotations

import pytest
import torch
from support.outer_problems import DOUBLE, outer_problem

from obdbench.distillation.phase_solvers import PhaseSolvers
from obdbench.distillation.settings import DistillSettings, resolve_settings
from obdbench.distillation.solvers.exact import Exact
from obdbench.distillation.solvers.solver import make_solver
from obdbench.distillation.solvers.squared_distance import squared_distance
from obdbench.errors import InvalidSettingError, UnknownNameError
from obdbench.experiments.fingerprint import code_fingerprint
from obdbench.objectives.dbc import DBC
from obdbench.registry import solvers, state_sources


def test_the_alias_exact_is_the_default_and_keeps_the_schedule() -> None:
    assert resolve_settings("fast", {"solver": "exact"}) == resolve_settings("fast")
    assert type(make_solver("exact", DistillSettings())) is Exact


def test_a_solver_that_is_selected_takes_every_step_unless_told_otherwise() -> None:
    assert resolve_settings("fast", {"solver": "label-solving"}).kernel_steps == 0
    assert resolve_settings("fast", {"solver": "infinite-width"}).kernel_steps == 420
    chosen = resolve_settings("fast", {"solver": "loss-matching", "kernel_share": 0.5, "draws": 2})
    assert (chosen.kernel_steps, chosen.draws) == (210, 2)


@pytest.mark.parametrize(
    "overrides",
    [{"solver": "infinite-width", "kernel_share": 0.5}, {"solver": "label-solving", "window": 3}],
)
def test_settings_that_contradict_a_solver_are_refused(overrides: dict[str, object]) -> None:
    with pytest.raises(InvalidSettingError, match=str(overrides["solver"])):
        resolve_settings("fast", overrides)


@pytest.mark.parametrize("name", ["label-solving", "gradient-matching", "loss-matching"])
def test_solvers_without_noise_refuse_it(name: str) -> None:
    settings = resolve_settings("fast", {"solver": name, "noise": "exact"})
    with pytest.raises(InvalidSettingError, match="noise 'exact'"):
        make_solver(name, settings)


def test_an_unknown_solver_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="label-solving"):
        resolve_settings("fast", {"solver": "label-solve"})
    with pytest.raises(UnknownNameError):
        make_solver("nonsense", DistillSettings())


def test_each_phase_has_its_solver() -> None:
    methods = PhaseSolvers(resolve_settings("fast"), 2**31)
    assert methods.at(0).name == methods.at(398).name == "infinite-width"
    assert methods.at(399).name == "full"


def test_weights_and_targets_of_an_objective() -> None:
    class Weighted(DBC):
        def loss(self, actions, batch):
            weights = torch.tensor([[1.0], [4.0]], dtype=DOUBLE)
            return (weights * (actions - batch.actions).square()).mean((-2, -1))

    problem = outer_problem([[0.0], [1.0]], [[0.25], [-0.5]], Weighted())
    batch = problem.draw_batch(2)
    target = squared_distance(problem, batch, "mine")
    torch.testing.assert_close(target.weights.flatten(), torch.tensor([1.0, 4.0], dtype=DOUBLE))
    torch.testing.assert_close(target.targets, batch.actions)
    torch.testing.assert_close(target.with_mean_one().weights.mean(), torch.ones((), dtype=DOUBLE))


@pytest.mark.usefixtures("user_components")
def test_code_of_a_user_enters_the_fingerprint() -> None:
    code = code_fingerprint([(solvers, "mine"), (state_sources, "mine")])
    assert set(code) == {"solver", "state source"}
    assert code_fingerprint([(solvers, "full"), (state_sources, "imagined")]) == {}


@pytest.mark.usefixtures("user_components")
def test_a_target_that_is_no_solver_is_refused() -> None:
    solvers.register("no-solver", DBC)
    try:
        with pytest.raises(InvalidSettingError, match="not derived from Solver"):
            make_solver("no-solver", DistillSettings())
    finally:
        solvers.unregister("no-solver")
    with pytest.raises(NotImplementedError):
        make_solver("mine", DistillSettings()).step(
            outer_problem([[1.0]], [[1.0]]), torch.ones(1), torch.ones(1)
        )
