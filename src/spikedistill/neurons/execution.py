"""How elementwise functions over time are computed on each device; chosen by measurement, see `benchmarks/lif.py`.

- CPU: plain operations of torch.
- CPU, compiled: one loop in C++ that reads each current once; it needs a compiler and seconds to start. Per layer of
  ResNet-18, T 4, batch 32, one thread, it takes 5 to 9 times less than SpikingJelly's neuron in a loop over T, and plain
  operations 1.6 times less (`benchmarks/results/lif_cpu_1thread.json`). Plain operations on blocks of neurons that stay
  in the cache were tried and were no faster.
- GPU: `neurons.triton_lif`; inside a compiled block plain operations, which the compiler fuses. Neurons of rate-based
  backpropagation run plain operations outside of compiled blocks too.

All give the same spikes, but for potentials within rounding of the threshold, and gradients equal to rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

_VARIANTS = 64  # of one function or block that is compiled: numbers of steps, shapes, dtypes, training and evaluation


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
    if compiled and inputs[0].device.type == "cpu" and not torch.compiler.is_compiling():
        return _compile(function, parameters)(*inputs)
    return function(*inputs, parameters)


def allow_variants() -> None:
    """Let torch.compile make code for more kinds of input of each function before it gives up and runs it as it is."""
    torch._dynamo.config.recompile_limit = max(_VARIANTS, torch._dynamo.config.recompile_limit)


@functools.cache
def _compile(function: Callable[..., tuple[Tensor, ...]], parameters: Any) -> Callable[..., tuple[Tensor, ...]]:
    """Compiled code for any N; one for each number of steps and dtype."""
    allow_variants()

    def bound(*inputs: Tensor) -> tuple[Tensor, ...]:
        return function(*inputs, parameters)

    return torch.compile(bound, dynamic=True)
