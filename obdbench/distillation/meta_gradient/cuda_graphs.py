"""CUDA graphs: the many small kernels of a sweep, recorded once and replayed with one launch.

The inner loop launches about twelve thousand kernels per outer step, each shorter than its launch,
so on a GPU the launches limit the speed. A graph is recorded at the first call, and its first
replay is compared with the plain call. If recording fails or the results differ, plain calls are
used and one warning is logged. The function must give the same result when it is called again. On a
CPU the function is called as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

logger = logging.getLogger(__name__)
RELATIVE_TOLERANCE = 1e-3
WARM_UP_CALLS = 2


def record_graph(
    function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]
) -> tuple[torch.cuda.CUDAGraph, list[Tensor]]:
    """Record a call of ``function`` on ``inputs``; return the graph and its output tensors."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_CALLS):
            function(*inputs)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = list(function(*inputs))
    return graph, outputs


@dataclass
class CudaGraphFunction:
    """A function from tensors to tensors that is replayed from a CUDA graph where possible."""

    function: Callable[..., Sequence[Tensor]]
    failed: bool = field(default=False, init=False)
    _graph: torch.cuda.CUDAGraph | None = field(default=None, init=False)
    _inputs: list[Tensor] = field(default_factory=list, init=False)
    _outputs: list[Tensor] = field(default_factory=list, init=False)

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Return the function's outputs; they are not overwritten by later calls."""
        if self.failed or not inputs[0].is_cuda:
            return list(self.function(*inputs))
        if self._graph is None:
            return self.call_and_record(inputs)
        for static, value in zip(self._inputs, inputs, strict=True):
            static.copy_(value)
        self._graph.replay()
        return [output.clone() for output in self._outputs]

    def call_and_record(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the outputs of a plain call, and record the graph for later calls."""
        expected = [output.clone() for output in self.function(*inputs)]
        try:
            self._inputs = [value.clone() for value in inputs]
            self._graph, self._outputs = record_graph(self.function, self._inputs)
            for plain, replayed in zip(expected, self(*inputs), strict=True):
                error = (plain - replayed).norm() / plain.norm().clamp_min(1e-30)
                if not error <= RELATIVE_TOLERANCE:
                    raise RuntimeError(f"a replay differs from the plain call by {error:.1e}")
        except RuntimeError as error:
            self.failed, self._graph = True, None
            logger.warning("CUDA graphs are not used: %s", (str(error).splitlines() or [""])[0])
            # Recording may have overwritten what the function leaves behind for a later function.
            return list(self.function(*inputs))
        return expected
