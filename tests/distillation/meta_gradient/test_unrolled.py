"""The solver's choice of method, its reuse of buffers, and edge cases of both methods."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import torch
from support.gradients import (
    DOUBLE,
    MLP4,
    RESIDUAL,
    STEPS,
    autograd_meta_gradient,
    initial_params,
    make_cloning,
    random_noise,
    random_synsets,
    relative_error,
    squared_error,
)
from torch import Tensor

from obdbench.distillation.meta_gradient.general import MetaGradient
from obdbench.distillation.meta_gradient.unrolled import UnrolledMetaGradient
from obdbench.errors import ObdError
from obdbench.policies.cloning import CloningConfig
from obdbench.policies.networks import LOG_STD_OFFSET, Architecture, Params, stacked_linear


@pytest.fixture
def _restore_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def assert_close(actual: MetaGradient, expected: tuple[Tensor, Tensor, Tensor]) -> None:
    losses, gx, ga = expected
    assert torch.allclose(actual.loss, losses, rtol=1e-12)
    assert relative_error(actual.states, gx) < 1e-11
    assert relative_error(actual.actions, ga) < 1e-11


@dataclass(frozen=True)
class TanhArchitecture(Architecture):
    """A subclass with tanh instead of ReLU, for which the reverse sweep is not derived."""

    def apply(self, params: Params, states: Tensor) -> tuple[Tensor, Tensor]:
        x = states.expand(params["w0"].shape[0], *states.shape[-2:])
        for index in range(self.depth - 1):
            x = torch.tanh(stacked_linear(params, index, x))
        mean, raw = stacked_linear(params, self.depth - 1, x).chunk(2, dim=-1)
        return mean, raw


@pytest.mark.parametrize(
    ("architecture", "optimizer", "use_reverse_sweep", "is_swept"),
    [
        (MLP4, "sgd", True, True),
        (MLP4, "sgd", False, False),
        (MLP4, "sgdm", True, False),
        (RESIDUAL, "sgd", True, False),
        (Architecture("mlp1", 1, width=12), "sgd", True, False),
        (TanhArchitecture("tanh", 3, width=12), "sgd", True, False),
    ],
    ids=["mlp4", "switched off", "momentum", "residual", "one layer", "subclass"],
)
def test_reverse_sweep_is_used_where_it_is_derived(
    architecture: Architecture, optimizer: str, use_reverse_sweep: bool, is_swept: bool
) -> None:
    cloning, (x, a) = make_cloning(architecture, optimizer), random_synsets()
    solver = UnrolledMetaGradient(cloning, use_reverse_sweep=use_reverse_sweep)
    actual = solver(initial_params(cloning), x, a, squared_error(cloning))
    assert (solver.reverse_sweep is not None) == is_swept
    assert_close(
        actual,
        autograd_meta_gradient(
            cloning, initial_params(cloning), x, a, squared_error(cloning), None
        ),
    )


@pytest.mark.parametrize("use_reverse_sweep", [True, False])
def test_parameters_the_objective_ignores_have_zero_gradient(use_reverse_sweep: bool) -> None:
    cloning, (x, a) = make_cloning(MLP4, "sgd"), random_synsets()

    def first_layer(params: Params) -> Tensor:
        return params["w0"].square().sum((-1, -2))

    actual = UnrolledMetaGradient(cloning, use_reverse_sweep=use_reverse_sweep)(
        initial_params(cloning), x, a, first_layer
    )
    assert_close(
        actual, autograd_meta_gradient(cloning, initial_params(cloning), x, a, first_layer, None)
    )


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("use_reverse_sweep", [True, False])
def test_objective_may_depend_on_every_parameter(use_reverse_sweep: bool, sampled: bool) -> None:
    """Without noise the log std half of the head is not trained."""
    cloning, (x, a) = make_cloning(MLP4, "sgd"), random_synsets()
    noise = random_noise() if sampled else None

    def everything(params: Params) -> Tensor:
        return torch.stack([p.square().flatten(1).sum(1) for p in params.values()]).sum(0)

    actual = UnrolledMetaGradient(cloning, use_reverse_sweep=use_reverse_sweep)(
        initial_params(cloning), x, a, everything, noise=noise
    )
    assert_close(
        actual, autograd_meta_gradient(cloning, initial_params(cloning), x, a, everything, noise)
    )


@pytest.mark.parametrize("use_reverse_sweep", [True, False])
@pytest.mark.parametrize("raw", [-21.0, 2.3])
def test_log_std_is_clamped_and_has_no_gradient_outside_its_bounds(
    raw: float, use_reverse_sweep: bool
) -> None:
    """One action's log std lies outside the bounds, the others inside."""
    cloning, (x, a) = make_cloning(MLP4, "sgd"), random_synsets()
    params = initial_params(cloning)
    params[f"b{MLP4.depth - 1}"][:, 3] = raw - LOG_STD_OFFSET
    actual = UnrolledMetaGradient(cloning, use_reverse_sweep=use_reverse_sweep)(
        params, x, a, squared_error(cloning), noise=random_noise()
    )
    assert_close(
        actual,
        autograd_meta_gradient(cloning, params, x, a, squared_error(cloning), random_noise()),
    )


def test_fewer_buffers_than_the_root_of_the_steps_are_refused() -> None:
    """With fewer records than √T the starts of the segments alone would exceed the memory."""
    cloning, (x, a) = make_cloning(MLP4, "sgd"), random_synsets()
    whole = UnrolledMetaGradient(cloning)
    whole(initial_params(cloning), x, a, squared_error(cloning))
    assert whole.reverse_sweep is not None
    record_bytes = whole.reverse_sweep.sweeps[0].record_bytes
    with pytest.raises(ObdError, match="GiB do not hold"):
        UnrolledMetaGradient(cloning, memory=record_bytes * 3 // 2)(
            initial_params(cloning), x, a, squared_error(cloning)
        )
    UnrolledMetaGradient(cloning, memory=record_bytes * 5 // 2)(
        initial_params(cloning), x, a, squared_error(cloning)
    )


@pytest.mark.usefixtures("_restore_threads")
def test_memory_that_the_error_asks_for_suffices_for_a_grouped_stack() -> None:
    cloning, (x, a) = make_cloning(MLP4, "sgd"), random_synsets(3)
    torch.set_num_threads(2)
    with pytest.raises(ObdError) as caught:
        UnrolledMetaGradient(cloning, memory=2**10)(
            initial_params(cloning, 3), x, a, squared_error(cloning)
        )
    requested = re.search(r"at least ([\d.]+) GiB", str(caught.value))
    assert requested is not None
    memory = int(float(requested[1]) * 2**30)
    UnrolledMetaGradient(cloning, memory=memory)(
        initial_params(cloning, 3), x, a, squared_error(cloning)
    )


def reused_and_fresh(
    cloning: CloningConfig, **options: object
) -> tuple[MetaGradient, MetaGradient]:
    """Return the same call of a solver that was called with other options, and of a new one."""
    (x, a), reused = random_synsets(), UnrolledMetaGradient(cloning)
    reused(initial_params(cloning), x, a, squared_error(cloning))
    actual, expected = (
        solver(initial_params(cloning), x, a, squared_error(cloning), **options)
        for solver in (reused, UnrolledMetaGradient(cloning))
    )
    return actual, expected


def test_window_may_be_added_after_a_call_without() -> None:
    actual, expected = reused_and_fresh(make_cloning(MLP4, "sgd"), window=2)
    assert torch.equal(actual.states, expected.states)


def test_noise_may_be_added_after_a_call_without() -> None:
    actual, expected = reused_and_fresh(make_cloning(MLP4, "sgd"), noise=random_noise())
    assert torch.equal(actual.states, expected.states)


def test_other_shapes_get_other_buffers() -> None:
    """A stack of one policy would broadcast into the buffers of two without an error."""
    cloning, reused = make_cloning(MLP4, "sgd"), UnrolledMetaGradient(make_cloning(MLP4, "sgd"))
    reused(initial_params(cloning), *random_synsets(), squared_error(cloning))
    for stack, pairs in ((1, 6), (2, 5)):
        x, a = random_synsets(stack, pairs)
        actual = reused(initial_params(cloning, stack), x, a, squared_error(cloning))
        expected = UnrolledMetaGradient(cloning)(
            initial_params(cloning, stack), x, a, squared_error(cloning)
        )
        assert actual.states.shape == x.shape
        assert torch.equal(actual.states, expected.states)


def test_other_dtype_gets_other_buffers() -> None:
    cloning, (x, a) = make_cloning(MLP4, "sgd"), random_synsets()
    params = {name: value.float() for name, value in initial_params(cloning).items()}

    def outer_loss(learned: Params) -> Tensor:
        return cloning.architecture.act(learned, x.to(learned["w0"].dtype)).square().mean((-1, -2))

    reused = UnrolledMetaGradient(cloning)
    reused(initial_params(cloning), x, a, outer_loss)
    actual = reused(params, x.float(), a.float(), outer_loss)
    expected = UnrolledMetaGradient(cloning)(params, x.float(), a.float(), outer_loss)
    assert actual.states.dtype == torch.float32
    assert torch.equal(actual.states, expected.states)


@pytest.mark.usefixtures("_restore_threads")
def test_other_number_of_threads_regroups_the_stack() -> None:
    cloning, (x, a) = make_cloning(MLP4, "sgd"), random_synsets(3)
    solver = UnrolledMetaGradient(cloning)
    torch.set_num_threads(1)
    one = solver(initial_params(cloning, 3), x, a, squared_error(cloning))
    assert solver.reverse_sweep is not None
    assert len(solver.reverse_sweep.groups) == 1
    torch.set_num_threads(2)
    two = solver(initial_params(cloning, 3), x, a, squared_error(cloning))
    assert len(solver.reverse_sweep.groups) == 2
    assert relative_error(two.states, one.states) < 1e-12


def test_learning_rate_and_steps_are_those_of_the_inner_loop() -> None:
    for cloning in (
        replace(make_cloning(MLP4, "sgd"), lr=0.07),
        make_cloning(MLP4, "sgd", STEPS + 3),
    ):
        x, a = random_synsets()
        actual = UnrolledMetaGradient(cloning)(
            initial_params(cloning), x, a, squared_error(cloning)
        )
        assert_close(
            actual,
            autograd_meta_gradient(
                cloning, initial_params(cloning), x, a, squared_error(cloning), None
            ),
        )
    assert x.dtype == DOUBLE
