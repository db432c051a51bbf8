"""How elementwise functions over time are computed: as they are, block by block in the cache, or compiled.

`benchmarks/lif.py` measures the ways, and its results say why each device has the one it has.

- CPU: block by block. A layer's currents are far larger than the caches, and plain operations would go through memory at
  every one of some twenty; a block of neurons stays in the cache from the first step to the last.
- CPU, compiled: one loop in C++ that reads each current once, the fastest; it needs a compiler and seconds to start.
- GPU: `neurons.triton_lif`, or inside a compiled block plain operations, which the compiler fuses.

All give the same spikes, but for potentials within rounding of the threshold, and gradients equal to rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

BLOCK = 32768
"""Neurons per thread that are computed from the first step to the last before the next ones: 128 KiB a step in float32."""

_VARIANTS = 64  # of one compiled function: numbers of steps, dtypes, neurons


class Layout:
    """The order in which [T, ...] lies in memory, so that other tensors can be flattened to [T, N] in that order."""

    def __init__(self, x: Tensor) -> None:
        """Note the layout of `x`; time must come first."""
        self._shape = x.shape
        self._order = sorted(range(1, x.dim()), key=x.stride, reverse=True)

    def flatten(self, x: Tensor) -> Tensor:
        """[T, ...] -> [T, N], a view where `x` lies in this order."""
        return x.permute(0, *self._order).reshape(len(x), -1)

    def restore(self, flat: Tensor) -> Tensor:
        """[T, N] -> [T, ...], or [N] -> the shape of one step, without a copy."""
        shape = [self._shape[dim] for dim in self._order]
        back = [self._order.index(dim) for dim in range(1, len(self._shape))]
        if flat.dim() == 1:
            return flat.view(shape).permute(back)
        return flat.view(len(flat), *shape).permute(0, *(1 + dim for dim in back))


def run(
    function: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Tensor], parameters: Any, *, compiled: bool
) -> tuple[Tensor, ...]:
    """`function(*inputs, parameters)` for a function that computes each place of the last dimension by itself.

    Args:
        function: tensors [..., N] and parameters in, tensors [..., N] out.
        inputs: on one device.
        parameters: hashable.
        compiled: on a CPU, with code of its own, which the first call makes in some seconds.
    """
    if torch.compiler.is_compiling() or inputs[0].device.type != "cpu":
        return function(*inputs, parameters)
    if compiled:
        return _compile(function, parameters)(*inputs)
    return _in_blocks(function, inputs, parameters, BLOCK * torch.get_num_threads())


def _in_blocks(
    function: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Tensor], parameters: Any, block: int
) -> tuple[Tensor, ...]:
    size = inputs[0].shape[-1]
    if size <= block:
        return function(*inputs, parameters)
    outputs: list[Tensor] = []
    for start in range(0, size, block):
        part = slice(start, start + block)
        results = function(*(x[..., part] for x in inputs), parameters)
        outputs = outputs or [result.new_empty((*result.shape[:-1], size)) for result in results]
        for output, result in zip(outputs, results, strict=True):
            output[..., part] = result
    return tuple(outputs)


@functools.cache
def _compile(function: Callable[..., tuple[Tensor, ...]], parameters: Any) -> Callable[..., tuple[Tensor, ...]]:
    """Compiled code for any N; one for each number of steps and dtype."""
    torch._dynamo.config.recompile_limit = max(_VARIANTS, torch._dynamo.config.recompile_limit)

    def bound(*inputs: Tensor) -> tuple[Tensor, ...]:
        return function(*inputs, parameters)

    return torch.compile(bound, dynamic=True)
