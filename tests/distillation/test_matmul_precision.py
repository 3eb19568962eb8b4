"""The precision of products: where it holds, what it costs, and that CPUs are not touched by it."""

import numpy as np
import pytest
import torch
from support.toys import make_toy_dataset, make_toy_teacher

from obdbench.distillation.loop import distill_points
from obdbench.distillation.matmul_precision import PRECISIONS, matmul_precision
from obdbench.distillation.meta_gradient.solver import MetaGradientSolver
from obdbench.distillation.settings import DistillSettings, resolve_settings
from obdbench.errors import ObdError
from obdbench.experiments.spec import TrialSpec
from obdbench.objectives.objective import make_objective
from obdbench.policies.cloning import CloningConfig
from obdbench.policies.networks import MLP4, seeded_generator
from obdbench.policies.optimizers import get_optimizer


class Watched:
    """An objective that notes the precision it is computed under."""

    def __init__(self):
        self.inner = make_objective("pbc")
        self.seen = set()

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def loss(self, actions, batch):
        self.seen.add(torch.get_float32_matmul_precision())
        return self.inner.loss(actions, batch)


def distil(precision):
    dataset = make_toy_dataset()
    objective = Watched()
    settings = resolve_settings("tiny", {"pairs": 8, "steps": 2, "precision": precision})
    points = distill_points(dataset, make_toy_teacher(dataset), objective, settings, [0])
    return list(points)[-1].synsets[0].states, objective.seen


@pytest.mark.parametrize("precision", PRECISIONS)
def test_steps_are_taken_under_it_and_nothing_else(precision):
    before = torch.get_float32_matmul_precision()
    states, seen = distil(precision)
    assert seen == {PRECISIONS[precision]}
    assert torch.get_float32_matmul_precision() == before
    assert np.isfinite(states).all()


def test_it_is_put_back_after_an_error():
    before = torch.get_float32_matmul_precision()
    with pytest.raises(RuntimeError), matmul_precision("bfloat16"):
        raise RuntimeError
    assert torch.get_float32_matmul_precision() == before


def test_it_is_part_of_a_trial_s_name_unless_it_is_float32():
    spec = TrialSpec(dataset="embedded/hopper-medium-v0", objective="pbc")
    named = {
        precision: spec.model_copy(update={"settings": DistillSettings(precision=precision)}).key
        for precision in PRECISIONS
    }
    assert named["float32"] == spec.key == "8d7aba430c72e031"
    assert len(set(named.values())) == 3


def test_other_precisions_are_refused():
    with pytest.raises(ObdError, match="precision"):
        resolve_settings("tiny", {"precision": "float16"})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_error_of_tf32_is_that_of_a_few_kinks():
    """The meta-gradient at 100 inner steps, against float64 on the same inputs.

    Two orders of summation in float32 already part by some percent; TF32 may be thrice as far off.
    """
    generator = torch.Generator().manual_seed(0)
    x, a = torch.randn(1, 256, 11, generator=generator), torch.rand(1, 256, 3, generator=generator)
    states = torch.randn(1, 512, 11, generator=generator)
    target = torch.rand(1, 512, 3, generator=generator)
    how = CloningConfig(MLP4, get_optimizer("sgd"), 0.1, 100)

    def gradient(precision, dtype):
        there = [t.to("cuda", dtype) for t in (x, a, states, target)]
        params = MLP4.init([seeded_generator(0)], 11, 3, dtype=dtype, device="cuda")

        def outer(learned):
            return (MLP4.act(learned, there[2]) - there[3]).square().mean((-2, -1))

        with matmul_precision(precision):
            found = MetaGradientSolver(how)(params, there[0], there[1], outer)
        return torch.cat([found.states.flatten(), found.actions.flatten()]).double().cpu()

    exact = gradient("float32", torch.float64)
    error = {p: (gradient(p, torch.float32) - exact).norm() / exact.norm() for p in PRECISIONS}
    assert error["tf32"] < max(0.1, 3 * error["float32"]), error
    assert error["bfloat16"] < 1.0, error
