"""Batch normalisation over the samples of all ranks, on any device.

torch's own SyncBatchNorm needs GPUs; on the CPU this one takes its place.

    mean, var over all ranks' samples;   y = gamma * (x - mean) / sqrt(var + eps) + beta
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def synchronise(model: nn.Module, device: torch.device) -> nn.Module:
    """Let every batch normalisation of `model` use the statistics of all ranks; the parameters stay the same objects."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            setattr(model, name, SyncBatchNorm.of(child))
        else:
            synchronise(child, device)
    return model


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over all ranks through the default process group."""

    @classmethod
    def of(cls, module: nn.modules.batchnorm._BatchNorm) -> SyncBatchNorm:
        """A synchronised layer with the parameters and buffers of `module`."""
        layer = cls(module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats)
        layer._parameters, layer._buffers = module._parameters, module._buffers
        return layer.train(module.training)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any input [N, C, ...] will do."""

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, ...] -> the same shape."""
        if not self.training:
            return super().forward(input)
        output, mean, var, count = _Normalise.apply(input, self.weight, self.bias, self.eps)
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                assert self.momentum is not None, "a cumulative average is not implemented"
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
                self.running_var.lerp_((var * (count / (count - 1))).to(self.running_var.dtype), self.momentum)
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
        return output


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dims = [0, *range(2, x.dim())]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        exact = x if x.dtype == torch.float64 else x.float()
        var, mean = torch.var_mean(exact, dims, correction=0)
        own = torch.stack([mean, var, torch.full_like(mean, x.numel() / x.shape[1])])
        mean, var, count = _combine(own)
        inverse = (var + eps).rsqrt()
        normal = (exact - mean.reshape(shape)) * inverse.reshape(shape)
        output = normal * weight.reshape(shape) + bias.reshape(shape)
        ctx.save_for_backward(normal, weight, inverse, count)
        ctx.mark_non_differentiable(mean, var, count)
        return output.to(x.dtype), mean, var, count

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
        grad_x = (weight * inverse).reshape(shape) * (upstream - centre - normal * slope)
        return grad_x.to(gradients[0].dtype), own[1].to(weight.dtype), own[0].to(weight.dtype), None


def _combine(own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, biased variance and number of samples over all ranks, from rows mean, variance, count of each."""
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own)
    means, variances, counts = torch.stack(parts, 1)
    count = counts.sum(0)
    mean = (counts * means).sum(0) / count
    var = (counts * (variances + (means - mean) ** 2)).sum(0) / count
    return mean, var, count
