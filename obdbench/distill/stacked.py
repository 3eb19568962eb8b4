"""A stack of policies over the cores: equal shares side by side, the rest on all of them.

Batched products split badly where the stack is no multiple of the cores, and every operation waits
for the slowest core. Policies need nothing of each other, so on a CPU of T threads the stack is cut
into T equal shares; each runs in a thread of its own, one core an operation, and PyTorch releases
the interpreter inside its operations. What is left, fewer policies than threads, then runs on all
threads at once. The cut depends on the two numbers alone, so the same number of threads gives the
same bits. With one thread, and on a GPU, the whole stack is one program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from threading import Barrier
from typing import Any

import torch
from torch import Tensor

from obdbench.distill.graphs import Replayed
from obdbench.distill.sweep import ReverseSweep
from obdbench.policies.networks import Params


def shares(stack: int, threads: int) -> list[slice]:
    """``threads`` equal shares of the stack and the rest, if any; one share if there is no more."""
    each = stack // threads
    if threads == 1 or each == 0:
        return [slice(0, stack)]
    cuts = [*range(0, each * threads + 1, each), *([stack] if stack % threads else [])]
    return [slice(start, end) for start, end in pairwise(cuts)]


class StackedSweep:
    """The two sweeps of a whole stack, share by share."""

    def __init__(
        self,
        sweep: Callable[..., ReverseSweep],
        stack: int,
        memory: int,
        *,
        threads: int = 1,
    ) -> None:
        """``sweep`` makes the buffers for ``stack=`` policies within ``memory=`` bytes."""
        self.threads, self.shares = threads, shares(stack, threads)
        self.sweeps = []
        for share in self.shares:
            size = share.stop - share.start
            self.sweeps.append(sweep(stack=size, memory=memory * size // stack))
        self.names = [f"{kind}{i}" for i in range(self.sweeps[0].depth) for kind in ("w", "b")]
        self._calls: dict[int | None, tuple[list[Replayed], list[Replayed]]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def learn(
        self, params: Params, x: Tensor, a: Tensor, noise: Tensor | None, steps: int | None = None
    ) -> Params:
        """Clone every policy of the stack; the parameters after the last inner step."""
        if steps not in self._calls:
            self._calls[steps] = (
                [Replayed(partial(self._forth, sweep, steps)) for sweep in self.sweeps],
                [Replayed(partial(self._home, sweep)) for sweep in self.sweeps],
            )
        self._now = self._calls[steps]
        tensors = [params[name] for name in self.names] + [x, a]
        return dict(zip(self.names, self._run(self._now[0], tensors, noise), strict=True))

    def back(self, gradient: Params, reverse_noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Derivatives in states and actions, given those in the parameters last returned."""
        gx, ga = self._run(self._now[1], [gradient[name] for name in self.names], reverse_noise)
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
        self, calls: Sequence[Replayed], tensors: Sequence[Tensor], noise: Tensor | None
    ) -> list[Tensor]:
        def one(index: int) -> list[Tensor]:
            share = self.shares[index]
            own = [tensor[share] for tensor in tensors]
            drawn = [] if noise is None else [noise[:, share]]
            with torch.no_grad():  # the mode is a thread's own
                return calls[index](*own, *drawn)

        if len(calls) == 1:
            return one(0)
        workers = self._workers()
        parts: list[Any] = list(workers.map(one, range(self.threads)))
        parts += [one(index) for index in range(self.threads, len(calls))]
        return [torch.cat(pieces) for pieces in zip(*parts, strict=True)]

    def _workers(self) -> ThreadPoolExecutor:
        """Threads that run every operation on one core; the caller keeps its own number."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, "sweep")
            started = Barrier(self.threads)

            def alone(_: int) -> None:
                torch.set_num_threads(1)
                started.wait()

            list(self._pool.map(alone, range(self.threads)))
            torch.set_num_threads(self.threads)
        return self._pool
