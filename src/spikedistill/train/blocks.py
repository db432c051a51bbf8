"""Per-block torch.compile and activation checkpointing.

A block is a module with submodules of its own inside an `nn.Sequential` or `nn.ModuleList`, such as a residual block; an
`nn.Sequential` of plain layers is a block, too. Equal blocks share their compiled code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from spikedistill.errors import ConfigError
from spikedistill.neurons.execution import raise_recompile_limit
from spikedistill.neurons.neuron import SpikingNeuron
from spikedistill.neurons.rate import RateModule
from spikedistill.train.network.fusion import is_fused

_CONTAINERS = (nn.Sequential, nn.ModuleList)


def find_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the blocks of a network, in order."""
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
    """Return whether this is an `nn.Sequential` of layers without submodules."""
    return isinstance(module, nn.Sequential) and not any(list(part.children()) for part in module)


def compile_blocks(model: nn.Module) -> None:
    """Compile each block with torch.compile at its first call, unless it is fused; the names of parameters do not change."""
    raise_recompile_limit()
    for block in (block for block in find_blocks(model) if not is_fused(block)):
        block.forward = torch.compile(block.forward, dynamic=False)  # type: ignore[method-assign]


def compile_neurons(model: nn.Module) -> None:
    """Let the neurons of a network that have compiled code use it on the CPU; see `neurons.execution`."""
    for module in model.modules():
        if isinstance(module, SpikingNeuron):
            module.compiled = True


def checkpoint_blocks(model: nn.Module) -> None:
    """Apply activation checkpointing to each block: backward recomputes it from its inputs; running statistics update once.

    Blocks that train with rate-based backpropagation are left out: their memory does not grow with the number of time steps,
    and their rate pass consumes what the spike pass has recorded, so that a block cannot run again.

    Raises:
        ConfigError: if the network has neurons that keep their state after a forward pass.
    """
    if any(getattr(module, "keeps_state", False) for module in model.modules()):
        raise ConfigError(
            "engine.checkpoint_activations: blocks would run twice, and neurons of the network's own keep their state; set it to "
            "false, or build the network with the neurons that it is given"
        )
    for block in find_blocks(model):
        if any(isinstance(module, RateModule) for module in block.modules()):
            continue
        block.forward = _checkpointed(block, block.forward)  # type: ignore[method-assign]


def _checkpointed(block: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*inputs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*inputs)
        return checkpoint(
            forward, *inputs, use_reentrant=False, context_fn=lambda: (contextlib.nullcontext(), _frozen_statistics(block))
        )

    return run


@contextlib.contextmanager
def _frozen_statistics(block: nn.Module) -> Iterator[None]:
    """Keep the running statistics of the batch normalisations in `block` unchanged within the `with` block."""
    norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
