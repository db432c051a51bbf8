"""Batch normalisation over the samples of all ranks.

    mean, var over all ranks' samples;   y = gamma * (x - mean) / sqrt(var + eps) + beta

torch's own SyncBatchNorm runs on GPUs only. `SyncBatchNorm` replaces it on the CPU; `SyncRateBatchNorm2d` serves rate-based
backpropagation on both.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from spikedistill.neurons.dynamics import to_float32
from spikedistill.neurons.rate import RateBatchNorm2d


def synchronise(model: nn.Module, device: torch.device) -> nn.Module:
    """Replace every batch normalisation of `model` by its synchronised version, with the same parameter objects; return it."""
    for name, child in model.named_children():
        if isinstance(child, RateBatchNorm2d):
            setattr(model, name, SyncRateBatchNorm2d.from_batchnorm(child))
        elif isinstance(child, _BatchNorm):
            setattr(model, name, _synchronised(child, device))
        else:
            synchronise(child, device)
    return model


def _synchronised(norm: _BatchNorm, device: torch.device) -> nn.Module:
    """Return a synchronised layer that shares the parameters and buffers of `norm`."""
    multi_step = getattr(norm, "step_mode", "s") == "m"  # of SpikingJelly, on [T, N, C, ...]
    kind: type[_BatchNorm]
    if device.type == "cuda":
        kind = _MultiStepTorchSyncBatchNorm if multi_step else nn.SyncBatchNorm
    else:
        kind = _MultiStepSyncBatchNorm if multi_step else SyncBatchNorm
    synchronised = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    synchronised._parameters, synchronised._buffers = norm._parameters, norm._buffers
    return synchronised.train(norm.training)


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation over all ranks through the default process group, on any device."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any input [N, C, ...]."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [N, C, ...] per channel; the shape stays."""
        if not self.training:
            return super().forward(input)
        mean, var, count = _statistics(input.detach())
        update_running(self, mean, var, count)
        return _Normalise.apply(input, self.weight, self.bias, mean, (var + self.eps).rsqrt(), count)


class _MultiStep(nn.Module):
    """Mixin: time is folded into the batch."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [T, N, C, ...] per channel; the shape stays."""
        return super().forward(input.flatten(0, 1)).unflatten(0, input.shape[:2])


class _MultiStepSyncBatchNorm(_MultiStep, SyncBatchNorm):
    pass


class _MultiStepTorchSyncBatchNorm(_MultiStep, nn.SyncBatchNorm):
    pass


class SyncRateBatchNorm2d(RateBatchNorm2d):
    """Batch normalisation for rate-based backpropagation with statistics over all ranks, in the spike pass and the rate pass."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [N, D, h, w] per channel; the shape stays."""
        if not self.training:
            return super().forward(x)
        if self.recording:
            mean, var, count = _statistics(x)
            update_running(self, mean, var, count)
            self.mean, self.inverse_std = mean, (var + self.eps).rsqrt()
            return nn.functional.batch_norm(x, mean, var, self.weight, self.bias, False, 0.0, self.eps)
        count = torch.full_like(self.mean, x.numel() / x.shape[1] * dist.get_world_size())
        return _Normalise.apply(x, self.weight, self.bias, self.mean, self.inverse_std, count)


def update_running(norm: _BatchNorm, mean: Tensor, var: Tensor, count: Tensor) -> None:
    """Move the running statistics towards those of a batch of `count` samples per channel, as torch's layers do."""
    if norm.running_mean is None or norm.running_var is None:
        return
    with torch.no_grad():
        assert norm.momentum is not None, "a cumulative average is not implemented"
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
        norm.running_var.lerp_((var * (count / (count - 1))).to(norm.running_var.dtype), norm.momentum)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)


class _Normalise(torch.autograd.Function):
    """Normalisation with given statistics; gradients flow through them as the mean and variance of all ranks' input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, inverse: Tensor, count: Tensor) -> Tensor:
        shape = [1, -1, *[1] * (x.dim() - 2)]
        normal = (to_float32(x) - mean.reshape(shape)).mul_(inverse.reshape(shape))
        ctx.save_for_backward(normal, weight, inverse, count)
        return torch.addcmul(bias.reshape(shape), normal, weight.reshape(shape)).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        normal, weight, inverse, count = ctx.saved_tensors
        dims = [0, *range(2, normal.dim())]
        shape = [1, -1, *[1] * (normal.dim() - 2)]
        upstream = gradients[0].to(normal.dtype)
        own = torch.stack([upstream.sum(dims), (upstream * normal).sum(dims)])
        everyone = own.clone()
        dist.all_reduce(everyone)
        centre, slope = (everyone / count).reshape(2, *shape)
        grad_x = (upstream - centre).addcmul_(normal, slope, value=-1).mul_((weight * inverse).reshape(shape))
        return grad_x.to(gradients[0].dtype), own[1].to(weight.dtype), own[0].to(weight.dtype), None, None, None


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean, the biased variance and the number of samples of each channel over all ranks."""
    var, mean = torch.var_mean(to_float32(x), [0, *range(2, x.dim())], correction=0)
    return over_ranks(mean, var, x.numel() / x.shape[1])


def over_ranks(mean: Tensor, var: Tensor, own_count: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, biased variance and number of samples of each channel over all ranks, given those of this rank."""
    own = torch.stack([mean, var, torch.full_like(mean, own_count)])
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own)
    means, variances, counts = torch.stack(parts, 1)
    count = counts.sum(0)
    mean = (counts * means).sum(0) / count
    var = (counts * (variances + (means - mean) ** 2)).sum(0) / count
    return mean, var, count
