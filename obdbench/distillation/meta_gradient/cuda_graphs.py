"""CUDA graphs: the sweeps' thousands of small launches recorded once and replayed as one.

The inner loop launches some twelve thousand kernels an outer step, each far shorter than its
launch; on a GPU the host, not the arithmetic, sets the pace. A graph is recorded at the first call
for the shapes at hand, its first replay is compared with the plain call, and whatever goes wrong
falls back to plain calls with one line. The function must give the same when it is called again.
On a CPU nothing of this is used.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

logger = logging.getLogger(__name__)
TOLERANCE = 1e-3
WARM_UP = 2


@dataclass
class CudaGraphFunction:
    """A function of tensors to tensors, replayed from a graph where that works."""

    function: Callable[..., Sequence[Tensor]]
    failed: bool = field(default=False, init=False)
    _graph: torch.cuda.CUDAGraph | None = field(default=None, init=False)
    _inputs: list[Tensor] = field(default_factory=list, init=False)
    _outputs: list[Tensor] = field(default_factory=list, init=False)

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """The function's value; the tensors are the caller's to keep."""
        if self.failed or not inputs[0].is_cuda:
            return list(self.function(*inputs))
        if self._graph is None:
            return self._first(inputs)
        for static, value in zip(self._inputs, inputs, strict=True):
            static.copy_(value)
        self._graph.replay()
        return [output.clone() for output in self._outputs]

    def _first(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        expected = [output.clone() for output in self.function(*inputs)]
        try:
            self._record(inputs)
            found = self(*inputs)
            for plain, replayed in zip(expected, found, strict=True):
                error = (plain - replayed).norm() / plain.norm().clamp_min(1e-30)
                if not error <= TOLERANCE:
                    raise RuntimeError(f"a replay differs from the plain call by {error:.1e}")
        except RuntimeError as error:
            self.failed, self._graph = True, None
            logger.warning("CUDA graphs are not used: %s", (str(error).splitlines() or [""])[0])
            return list(self.function(*inputs))  # what it leaves behind may have been spoilt
        return expected

    def _record(self, inputs: Sequence[Tensor]) -> None:
        self._inputs = [value.clone() for value in inputs]
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self.function(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._outputs = list(self.function(*self._inputs))
        self._graph = graph
