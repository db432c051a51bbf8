"""The backends of elementwise functions over time, one per device; chosen by measurement, see `benchmarks/lif.py`.

- CPU: plain torch operations.
- CPU, compiled: one C++ loop that reads each current once; it needs a compiler and takes seconds to start. On the layers of
  ResNet-18 (T 4, batch 32, one thread) it is 5 to 9 times as fast as SpikingJelly's neuron in a loop over T; plain operations
  are 1.6 times as fast (`benchmarks/results/lif_cpu_1thread.json`). Plain operations on blocks of neurons that fit into the
  cache were no faster.
- GPU: the kernels of `neurons.kernels`, inside a compiled block, too, where plain operations would move more bytes.

All backends give the same spikes, except where rounding decides whether the threshold is reached, and gradients that agree to
rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

_RECOMPILE_LIMIT = 64  # variants of a compiled function or block: numbers of steps, shapes, dtypes, training and evaluation


class Layout:
    """The memory order of a tensor [T, ...], in which other tensors can be flattened to [T, N]."""

    def __init__(self, x: Tensor) -> None:
        """Take the order of `x`; time must come first."""
        self._shape = x.shape
        self._order = sorted(range(1, x.dim()), key=x.stride, reverse=True)

    def flatten(self, x: Tensor) -> Tensor:
        """Flatten [T, ...] to [T, N]: a view where `x` has this order."""
        return x.permute(0, *self._order).reshape(len(x), -1)

    def restore(self, flat: Tensor) -> Tensor:
        """Undo `flatten` without a copy: [T, N] -> [T, ...]; also [N] -> the shape of one step."""
        shape = [self._shape[dim] for dim in self._order]
        back = [self._order.index(dim) for dim in range(1, len(self._shape))]
        if flat.dim() == 1:
            return flat.view(shape).permute(back)
        return flat.view(len(flat), *shape).permute(0, *(1 + dim for dim in back))


def run(
    function: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Tensor], parameters: Any, *, compiled: bool
) -> tuple[Tensor, ...]:
    """Return `function(*inputs, parameters)`, where the function is elementwise in the last dimension.

    Args:
        function: tensors [..., N] and parameters in, tensors [..., N] out.
        inputs: on one device.
        parameters: hashable.
        compiled: whether a CPU runs compiled code, which the first call takes some seconds to make.
    """
    if compiled and inputs[0].device.type == "cpu" and not torch.compiler.is_compiling():
        return _compile(function, parameters)(*inputs)
    return function(*inputs, parameters)


def raise_recompile_limit() -> None:
    """Raise torch.compile's recompile limit."""
    torch._dynamo.config.recompile_limit = max(_RECOMPILE_LIMIT, torch._dynamo.config.recompile_limit)


@functools.cache
def _compile(function: Callable[..., tuple[Tensor, ...]], parameters: Any) -> Callable[..., tuple[Tensor, ...]]:
    """Return compiled code for any N; it is recompiled for each number of steps and dtype."""
    raise_recompile_limit()

    def bound(*inputs: Tensor) -> tuple[Tensor, ...]:
        return function(*inputs, parameters)

    return torch.compile(bound, dynamic=True)
