"""The precision of matrix products, and its error on a GPU."""

import numpy as np
import pytest
import torch
from support.toys import make_toy_dataset, make_toy_teacher

from obdbench.distillation.loop import distill_points
from obdbench.distillation.meta_gradient.unrolled import UnrolledMetaGradient
from obdbench.distillation.settings import DistillSettings, resolve_settings
from obdbench.errors import ObdError
from obdbench.experiments.spec import TrialSpec
from obdbench.objectives.objective import make_objective
from obdbench.policies.cloning import CloningConfig
from obdbench.policies.networks import MLP4, seeded_generator
from obdbench.policies.optimizers import get_optimizer
from obdbench.policies.torch_settings import PRECISIONS, matmul_precision


class RecordingObjective:
    """PBC that records the precision under which its loss is computed."""

    def __init__(self):
        self.inner = make_objective("pbc")
        self.precisions = set()

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def loss(self, actions, batch):
        self.precisions.add(torch.get_float32_matmul_precision())
        return self.inner.loss(actions, batch)


def distill(precision):
    dataset = make_toy_dataset()
    settings = resolve_settings("tiny", {"pairs": 8, "steps": 2, "precision": precision})
    objective = RecordingObjective()
    points = distill_points(dataset, make_toy_teacher(dataset), objective, settings, [0])
    return list(points)[-1].synsets[0].states, objective.precisions


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_distills_and_leaves_pytorchs_setting(precision):
    before = torch.get_float32_matmul_precision()
    states, precisions = distill(precision)
    assert precisions == {PRECISIONS["float32"]}
    assert torch.get_float32_matmul_precision() == before
    assert np.isfinite(states).all()
    assert np.allclose(states, distill("float32")[0], atol=0.05)


def test_outer_steps_do_not_use_a_precision_that_the_caller_has_set():
    with matmul_precision("bfloat16"):
        _, precisions = distill("float32")
        assert torch.get_float32_matmul_precision() == PRECISIONS["bfloat16"]
    assert precisions == {PRECISIONS["float32"]}


def test_precision_is_restored_after_an_error():
    before = torch.get_float32_matmul_precision()
    with pytest.raises(RuntimeError), matmul_precision("bfloat16"):
        raise RuntimeError
    assert torch.get_float32_matmul_precision() == before


def test_precision_is_part_of_a_trial_key():
    spec = TrialSpec(dataset="embedded/hopper-medium-v1", objective="pbc")
    keys = {
        spec.model_copy(update={"settings": DistillSettings(precision=precision)}).key
        for precision in PRECISIONS
    }
    assert spec.key in keys
    assert len(keys) == 3


def test_unknown_precision_is_an_error():
    with pytest.raises(ObdError, match="precision"):
        resolve_settings("tiny", {"precision": "float16"})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_error_of_tf32_is_of_the_size_of_rounding_at_kinks():
    """Compare the meta-gradient of 100 inner steps with float64 on the same inputs.

    Two summation orders in float32 differ by several percent; TF32 may differ three times as much.
    """
    generator = torch.Generator().manual_seed(0)
    x, a = torch.randn(1, 256, 11, generator=generator), torch.rand(1, 256, 3, generator=generator)
    states = torch.randn(1, 512, 11, generator=generator)
    target = torch.rand(1, 512, 3, generator=generator)
    cloning = CloningConfig(MLP4, get_optimizer("sgd"), 0.1, 100)

    def gradient(precision, dtype):
        inputs = [t.to("cuda", dtype) for t in (x, a, states, target)]
        params = MLP4.init([seeded_generator(0)], 11, 3, dtype=dtype, device="cuda")

        def outer_loss(learned):
            return (MLP4.act(learned, inputs[2]) - inputs[3]).square().mean((-2, -1))

        solver = UnrolledMetaGradient(cloning, precision=precision)
        actual = solver(params, inputs[0], inputs[1], outer_loss)
        return torch.cat([actual.states.flatten(), actual.actions.flatten()]).double().cpu()

    exact = gradient("float32", torch.float64)
    error = {p: (gradient(p, torch.float32) - exact).norm() / exact.norm() for p in PRECISIONS}
    assert error["tf32"] < max(0.1, 3 * error["float32"]), error
    assert error["bfloat16"] < max(0.1, 3 * error["float32"]), error
