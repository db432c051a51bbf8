"""Compiling the blocks of a network or its neurons, and computing their activations twice instead of keeping them.

A block is a module with parts of its own inside an `nn.Sequential` or `nn.ModuleList`, such as a residual block; a
Sequential of plain layers is a block itself. Equal blocks share their compiled code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from spikedistill.neurons.execution import allow_variants
from spikedistill.neurons.lif import LIF
from spikedistill.neurons.rate import RateModule

_CONTAINERS = (nn.Sequential, nn.ModuleList)


def find_blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks of a network, in order."""
    found = []
    for child in model.children():
        parts = list(child.children())
        inside = isinstance(model, _CONTAINERS)
        if not parts:
            continue
        if (inside and not isinstance(child, _CONTAINERS)) or _is_plain(child):
            found.append(child)
        else:
            found += find_blocks(child)
    return found


def _is_plain(module: nn.Module) -> bool:
    """Whether this is a Sequential of layers without parts."""
    return isinstance(module, nn.Sequential) and not any(list(part.children()) for part in module)


def compile_blocks(model: nn.Module) -> None:
    """Let torch.compile make fast code of each block, at its first call; names of parameters do not change."""
    allow_variants()
    for block in find_blocks(model):
        block.forward = torch.compile(block.forward, dynamic=False)  # type: ignore[method-assign]


def compile_neurons(model: nn.Module) -> None:
    """Let the neurons of a network run compiled code on the CPU, see `neurons.execution`."""
    for module in model.modules():
        if isinstance(module, LIF):
            module.compiled = True


def checkpoint_blocks(model: nn.Module) -> None:
    """Keep only the inputs of each block for backward, which runs it again; batch statistics count once.

    Blocks that train with rate-based backpropagation stay as they are: their memory does not grow with time steps, and their
    second pass uses up what the first one left.
    """
    for block in find_blocks(model):
        if any(isinstance(module, RateModule) for module in block.modules()):
            continue
        block.forward = _checkpointed(block, block.forward)  # type: ignore[method-assign]


def _checkpointed(block: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*inputs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*inputs)
        return checkpoint(
            forward, *inputs, use_reentrant=False, context_fn=lambda: (contextlib.nullcontext(), _statistics_kept(block))
        )

    return run


@contextlib.contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Meanwhile the batch normalisations of `block` leave their running statistics as they are."""
    norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
