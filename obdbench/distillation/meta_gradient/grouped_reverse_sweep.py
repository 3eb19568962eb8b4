"""A stack of policies on the cores: as many at a time as there are cores, the rest together.

Batched products split badly where the stack is no multiple of the cores, so on T threads the stack
is cut into groups of T policies, one after the other, and what is left runs as a last, smaller
group; every product of a group takes all threads. A thread of its own for each policy would save
the splitting but lose more: threads wait for the interpreter between operations. The cut depends on
the two numbers alone, so the same number of threads gives the same bits. With one thread, and on a
GPU, the whole stack is one program.
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
    """Groups of ``threads`` policies and the rest, if any; one thread takes the stack as one."""
    size = stack if threads == 1 else threads
    return [slice(start, min(start + size, stack)) for start in range(0, stack, size)]


class BatchedReverseSweep:
    """The two sweeps of a whole stack, share by share."""

    def __init__(
        self,
        sweep: Callable[..., ReverseSweep],
        stack: int,
        memory: int,
        *,
        threads: int = 1,
    ) -> None:
        """``sweep`` makes the buffers for ``stack=`` policies within its part of the memory."""
        self.threads, self.shares = threads, split_stack(stack, threads)
        self.sweeps = []
        with torch.inference_mode():
            for share in self.shares:
                size = share.stop - share.start
                self.sweeps.append(sweep(stack=size, memory=memory, part=size / stack))
        self._derivative = MlpOuterGradient(self.sweeps[0].architecture, self.shares)
        self.names = [f"{kind}{i}" for i in range(self.sweeps[0].depth) for kind in ("w", "b")]
        self._calls: dict[int | None, tuple[list[CudaGraphFunction], list[CudaGraphFunction]]] = {}

    def learn(
        self, params: Params, x: Tensor, a: Tensor, noise: Tensor | None, steps: int | None = None
    ) -> Params:
        """Clone every policy of the stack; the parameters after the last inner step."""
        if steps not in self._calls:
            self._calls[steps] = (
                [CudaGraphFunction(partial(self._forth, sweep, steps)) for sweep in self.sweeps],
                [CudaGraphFunction(partial(self._home, sweep)) for sweep in self.sweeps],
            )
        self._now = self._calls[steps]
        tensors = [params[name] for name in self.names] + [x, a]
        return dict(zip(self.names, self._run(self._now[0], tensors, noise), strict=True))

    def derivative(self, outer: OuterLoss, learned: Params) -> tuple[Tensor, Params]:
        """H of every policy, and its derivative in the parameters last returned."""
        if isinstance(outer, OuterLossOnStates):
            return self._derivative(outer, learned)
        return outer_gradient(outer, learned)

    def back(self, gradient: Params, reverse_noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Derivatives in states and actions, given those in the parameters last returned."""
        for forth, home in zip(*self._now, strict=True):
            home.failed |= forth.failed  # a graph would read what a plain way forth has left behind
        given = [gradient[name] for name in self.names]
        if self.threads > 1:  # a stack that lies across is multiplied one policy after the other
            given = [tensor.contiguous() for tensor in given]
        gx, ga = self._run(self._now[1], given, reverse_noise)
        for forth, home in zip(*self._now, strict=True):
            forth.failed |= home.failed  # a plain way back needs what a plain way forth left
        return gx, ga

    def _forth(self, sweep: ReverseSweep, steps: int | None, *tensors: Tensor) -> list[Tensor]:
        count = len(self.names)
        params = dict(zip(self.names, tensors[:count], strict=True))
        learned = sweep.learn(params, *tensors[count:], steps=steps)
        return [learned[name] for name in self.names]

    def _home(self, sweep: ReverseSweep, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        count = len(self.names)
        gradient = dict(zip(self.names, tensors[:count], strict=True))
        return sweep.back(gradient, reverse_noise=tensors[count] if tensors[count:] else None)

    def _run(
        self, calls: Sequence[CudaGraphFunction], tensors: Sequence[Tensor], noise: Tensor | None
    ) -> list[Tensor]:
        with torch.inference_mode():  # which saves a little of every one of thousands of calls
            parts = []
            for call, share in zip(calls, self.shares, strict=True):
                drawn = [] if noise is None else [noise[:, share]]
                parts.append(call(*(tensor[share] for tensor in tensors), *drawn))
        if len(parts) == 1:
            return [tensor.clone() for tensor in parts[0]]  # autograd takes none made in that mode
        return [torch.cat(pieces) for pieces in zip(*parts, strict=True)]
