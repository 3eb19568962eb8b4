"""The reverse sweep of a stack of policies, in groups of as many policies as there are threads.

Batched matrix products divide badly over threads if the number of policies is no multiple of the
number of threads. With T threads the stack is therefore cut into groups of T policies and a smaller
last group; the groups run one after another and every product uses all threads. One thread per
policy would be slower, because threads wait for the interpreter lock between operations. The cut
depends on the two numbers alone, so the same number of threads gives the same bits. With one
thread, and on a GPU, the whole stack is one group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from obdbench.distillation.meta_gradient.cuda_graphs import CudaGraphFunction
from obdbench.distillation.meta_gradient.outer_gradient import (
    MlpOuterGradient,
    OuterLoss,
    OuterLossOnStates,
    outer_gradient,
)
from obdbench.distillation.meta_gradient.reverse_sweep import ReverseSweep
from obdbench.policies.networks import Params


def split_stack(stack: int, threads: int) -> list[slice]:
    """Cut a stack into groups of ``threads`` policies; with one thread it is a single group."""
    size = stack if threads == 1 else threads
    return [slice(start, min(start + size, stack)) for start in range(0, stack, size)]


def forward_pass(
    sweep: ReverseSweep, names: Sequence[str], steps: int | None, *tensors: Tensor
) -> list[Tensor]:
    """Run a sweep forward on the parameters with these names, the synset and the noise, if any."""
    params = dict(zip(names, tensors[: len(names)], strict=True))
    final_params = sweep.run_forward(params, *tensors[len(names) :], steps=steps)
    return [final_params[name] for name in names]


def backward_pass(
    sweep: ReverseSweep, names: Sequence[str], *tensors: Tensor
) -> tuple[Tensor, Tensor]:
    """Run a sweep backward on the gradients of these parameters and the noise, if any."""
    gradient = dict(zip(names, tensors[: len(names)], strict=True))
    reverse_noise = tensors[len(names)] if tensors[len(names) :] else None
    return sweep.run_backward(gradient, reverse_noise=reverse_noise)


class GroupedReverseSweep:
    """One :class:`ReverseSweep` for every group of a stack.

    ``make_sweep`` allocates a sweep, given ``stack=``, ``memory=`` and the group's share of the
    memory, ``memory_share=``.
    """

    def __init__(
        self,
        make_sweep: Callable[..., ReverseSweep],
        stack: int,
        memory: int,
        *,
        threads: int = 1,
    ) -> None:
        self.threads, self.groups = threads, split_stack(stack, threads)
        self.sweeps = []
        with torch.inference_mode():
            for group in self.groups:
                size = group.stop - group.start
                sweep = make_sweep(stack=size, memory=memory, memory_share=size / stack)
                self.sweeps.append(sweep)
        self._outer_gradient = MlpOuterGradient(self.sweeps[0].architecture, self.groups)
        self.names = [f"{kind}{i}" for i in range(self.sweeps[0].depth) for kind in ("w", "b")]
        self._passes: dict[int | None, tuple[list[CudaGraphFunction], list[CudaGraphFunction]]] = {}

    def run_forward(
        self, params: Params, x: Tensor, a: Tensor, noise: Tensor | None, steps: int | None = None
    ) -> Params:
        """Clone every policy of the stack and return the parameters after the last inner step."""
        if steps not in self._passes:
            self._passes[steps] = (
                [
                    CudaGraphFunction(partial(forward_pass, sweep, self.names, steps))
                    for sweep in self.sweeps
                ],
                [
                    CudaGraphFunction(partial(backward_pass, sweep, self.names))
                    for sweep in self.sweeps
                ],
            )
        self._forward_passes, self._backward_passes = self._passes[steps]
        tensors = [params[name] for name in self.names] + [x, a]
        final_params = self._run(self._forward_passes, tensors, noise)
        return dict(zip(self.names, final_params, strict=True))

    def outer_gradient(self, outer_loss: OuterLoss, params: Params) -> tuple[Tensor, Params]:
        """Return H of every policy and its gradient in the parameters returned last."""
        if isinstance(outer_loss, OuterLossOnStates):
            return self._outer_gradient(outer_loss, params)
        return outer_gradient(outer_loss, params)

    def run_backward(self, gradient: Params, reverse_noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the gradients in states and actions, given that in the final parameters.

        A backward graph reads what the forward graph left in its buffers, so a plain call of one
        requires a plain call of the other.
        """
        passes = list(zip(self._forward_passes, self._backward_passes, strict=True))
        for forward, backward in passes:
            backward.failed |= forward.failed
        tensors = [gradient[name] for name in self.names]
        if self.threads > 1:  # bmm multiplies a transposed stack one policy after another
            tensors = [tensor.contiguous() for tensor in tensors]
        gx, ga = self._run(self._backward_passes, tensors, reverse_noise)
        for forward, backward in passes:
            forward.failed |= backward.failed
        return gx, ga

    def _run(
        self, passes: Sequence[CudaGraphFunction], tensors: Sequence[Tensor], noise: Tensor | None
    ) -> list[Tensor]:
        with torch.inference_mode():  # saves time in each of thousands of operations
            outputs = []
            for run_pass, group in zip(passes, self.groups, strict=True):
                group_noise = [] if noise is None else [noise[:, group]]
                outputs.append(run_pass(*(tensor[group] for tensor in tensors), *group_noise))
        if len(outputs) == 1:
            return [tensor.clone() for tensor in outputs[0]]  # autograd refuses inference tensors
        return [torch.cat(group_outputs) for group_outputs in zip(*outputs, strict=True)]
