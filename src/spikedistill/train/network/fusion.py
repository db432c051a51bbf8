"""Batch normalisation and the LIF neurons after it computed as one on a GPU; `neurons.normalised` says how, this module where.

A pair is a batch normalisation and the neurons that follow it in an `nn.Sequential`, or, in a residual block of
`models.resnet`, the last normalisation of the body and the neurons after the sum with the shortcut. The normalisation of a pair
passes its input on, and the neurons do the work of both. Modules, their names, parameters and buffers stay, and neurons still
output their spikes, so hooks on them, checkpoints of both kinds and the state dict work as before; what goes into the neurons
is the output of the convolution. What the kernels cannot take runs unfused.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikedistill.models.resnet import BasicBlock
from spikedistill.neurons.kernels.tiles import Norm
from spikedistill.neurons.lif import LIF
from spikedistill.neurons.normalised import Average, is_usable, normalised_lif
from spikedistill.train.network.batchnorm import SyncBatchNorm, statistics_over_ranks

_OVER_RANKS = (nn.SyncBatchNorm, SyncBatchNorm)


def fuse_normalisation(model: nn.Module) -> None:
    """Make every pair of a network run as one, in place."""
    uses = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    for module in list(model.modules()):
        for norm, neurons in _neighbours(module):
            if not _fits(norm, neurons) or max(uses[id(norm)], uses[id(neurons)]) > 1:
                continue
            assert isinstance(norm, _BatchNorm) and isinstance(neurons, LIF)
            norm.forward = _pass_on  # type: ignore[method-assign, assignment]
            neurons.forward = functools.partial(_run, norm, neurons)  # type: ignore[method-assign]
            if isinstance(module, BasicBlock):
                module.forward = functools.partial(_run_block, module)  # type: ignore[method-assign]


def is_fused(module: nn.Module) -> bool:
    """Return whether a module has pairs that run as one: torch.compile would find little else in it."""
    return any(isinstance(part, LIF) and "forward" in vars(part) for part in module.modules())


def _neighbours(module: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Yield the layers of a module that may be a pair."""
    if isinstance(module, nn.Sequential):
        yield from pairwise(module)
    elif isinstance(module, BasicBlock) and type(module).forward is BasicBlock.forward:
        yield module.body[-1], module.activation


def _fits(norm: nn.Module, neurons: nn.Module) -> bool:
    if type(neurons) is not LIF or type(norm) not in (nn.BatchNorm2d, *_OVER_RANKS):
        return False
    assert isinstance(norm, _BatchNorm)
    return norm.affine and norm.track_running_stats and norm.momentum is not None


def _pass_on(y: Tensor) -> Tensor:
    return y


def _run_block(block: BasicBlock, x: Tensor) -> Tensor:
    """Run a block whose last normalisation is part of its activation."""
    return block.activation(block.body(x), block.shortcut(x))


@torch.compiler.disable
def _run(norm: _BatchNorm, neurons: LIF, y: Tensor, shortcut: Tensor | None = None) -> Tensor:
    """Return the spikes of the neurons for the normalised output of a convolution, plus a shortcut."""
    one_value = norm.training and y.numel() == norm.num_features  # torch's layer explains why that cannot be
    if one_value or not is_usable(y, neurons.time_steps):
        x = type(norm).forward(norm, y)
        return LIF.forward(neurons, x if shortcut is None else x + shortcut)
    mean, var, average = _statistics(norm, y.detach())
    fused = Norm(mean, var, norm.weight, norm.bias, norm.eps)
    return normalised_lif(y, shortcut, fused, neurons.dynamics, neurons.time_steps, average)


def _statistics(norm: _BatchNorm, y: Tensor) -> tuple[Tensor, Tensor, Average | None]:
    """Return mean, variance and `Average` to normalise `y` with; in training, update the running statistics."""
    if not norm.training:
        assert norm.running_mean is not None and norm.running_var is not None
        return norm.running_mean, norm.running_var, None
    own_count = y.numel() / y.shape[1]
    if isinstance(norm, _OVER_RANKS):
        mean, var, count = statistics_over_ranks(norm, y)
        return mean, var, functools.partial(_average_over_ranks, count)
    assert norm.momentum is not None
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    mean, var = torch.batch_norm_update_stats(y, norm.running_mean, norm.running_var, norm.momentum)
    return mean, var, lambda sums: sums / own_count


def _average_over_ranks(count: Tensor, sums: Tensor) -> Tensor:
    everyone = sums.clone()
    dist.all_reduce(everyone)
    return everyone / count
