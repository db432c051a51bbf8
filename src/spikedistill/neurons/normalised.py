"""Batch normalisation and the LIF neurons after it as one differentiable function, for GPUs; `neurons.kernels` computes it.

Neither the normalised values nor the potentials are kept for backward or written to memory: they are recomputed from the
output of the convolution. Letters: T step, B batch, C channel, H, W; M = B * H * W.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikedistill.neurons.dynamics import Dynamics
from spikedistill.neurons.kernels import launch
from spikedistill.neurons.kernels import normalised_lif as forward_kernel
from spikedistill.neurons.kernels import normalised_lif_backward as backward_kernels
from spikedistill.neurons.kernels.tiles import Norm

Average = Callable[[Tensor], Tensor]
"""Turns this rank's sums over its batch [2, C] into means over the batches of all ranks that share statistics."""


def is_usable(y: Tensor, steps: int) -> bool:
    """Return whether the kernels can take y [T * B, C, H, W]."""
    return y.dim() == 4 and launch.is_usable(y) and steps <= backward_kernels.MAX_STEPS and len(y) % steps == 0 and y.numel() > 0


def normalised_lif(
    y: Tensor, shortcut: Tensor | None, norm: Norm, dynamics: Dynamics, steps: int, average: Average | None
) -> Tensor:
    """Return the spikes of LIF neurons whose currents are the normalised `y` plus `shortcut`; differentiable once.

    float16 and bfloat16 are normalised, added and integrated in float32, without rounding in between.

    Args:
        y: output of a convolution [T * B, C, H, W].
        shortcut: what is added before the neurons, of the shape of `y`; None: nothing.
        norm: mean and variance, which are constants or those of the batch, weight and bias.
        dynamics: parameters of the neurons.
        steps: T.
        average: see `Average`; None if mean and variance are constants, as in evaluation.

    Returns:
        Spikes, 0 or 1, of the shape and dtype of `y`, in channels_last order.
    """
    return _NormalisedLif.apply(y, shortcut, norm.weight, norm.bias, norm.mean, norm.var, norm.eps, dynamics, steps, average)


class _NormalisedLif(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0913
        ctx: Any,
        y: Tensor,
        shortcut: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        var: Tensor,
        eps: float,
        dynamics: Dynamics,
        steps: int,
        average: Average | None,
    ) -> Tensor:
        y = y.contiguous(memory_format=torch.channels_last)
        flat = None if shortcut is None else _flatten(shortcut, steps)
        norm = Norm(mean, var, weight, bias, eps)
        spikes = forward_kernel.integrate(_flatten(y, steps), flat, norm, dynamics)
        ctx.save_for_backward(y, shortcut, mean, var, weight, bias)
        ctx.rest = eps, dynamics, steps, average
        return _restore(spikes, y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        y, shortcut, mean, var, weight, bias = ctx.saved_tensors
        eps, dynamics, steps, average = ctx.rest
        norm = Norm(mean, var, weight, bias, eps)
        upstream, flat_y = _flatten(gradients[0], steps), _flatten(y, steps)
        flat = None if shortcut is None else _flatten(shortcut, steps)
        sums, grad_x = backward_kernels.sum_gradients(upstream, flat_y, flat, norm, dynamics)
        means = torch.zeros_like(sums) if average is None else average(sums)
        grad_y = backward_kernels.differentiate(upstream, flat_y, grad_x, means, norm, dynamics)
        grad_shortcut = None if grad_x is None else _restore(grad_x, y)
        grad_bias, grad_weight = sums.to(norm.weight.dtype)
        return _restore(grad_y, y), grad_shortcut, grad_weight, grad_bias, *[None] * 6


def _flatten(x: Tensor, steps: int) -> Tensor:
    """Return [T * B, C, H, W] as [T, M, C]: a view where memory is channels_last."""
    return x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).reshape(steps, -1, x.shape[1])


def _restore(flat: Tensor, like: Tensor) -> Tensor:
    """Undo `_flatten`: [T, M, C] -> the shape of `like`."""
    number, channels, height, width = like.shape
    return flat.view(number, height, width, channels).permute(0, 3, 1, 2)
