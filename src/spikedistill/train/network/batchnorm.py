"""Batch normalisation over the samples of all ranks.

    mean, var over all ranks' samples;   y = gamma * (x - mean) / sqrt(var + eps) + beta

torch's own SyncBatchNorm runs on GPUs only, and each of its layers makes the host wait for the GPU. `SyncBatchNorm` replaces it,
with its kernels on a GPU; `SyncRateBatchNorm2d` serves rate-based backpropagation.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from spikedistill.errors import ConfigError
from spikedistill.neurons.dynamics import to_float32
from spikedistill.neurons.rate import RateBatchNorm2d


def synchronise(model: nn.Module) -> nn.Module:
    """Replace every batch normalisation of `model` by its synchronised version, with the same parameter objects; return it.

    Raises:
        ConfigError: if one is of a class that does more than normalise, in a way that is not known here, or has no weights or
            no momentum.
    """
    for name, child in model.named_children():
        if isinstance(child, RateBatchNorm2d):
            setattr(model, name, SyncRateBatchNorm2d.from_batchnorm(child))
        elif isinstance(child, _BatchNorm):
            setattr(model, name, _synchronised(child))
        else:
            synchronise(child)
    return model


def _synchronised(norm: _BatchNorm) -> nn.Module:
    """Return a synchronised layer that shares the parameters and buffers of `norm`."""
    if not norm.affine or norm.momentum is None:
        what = "no weight and bias" if not norm.affine else "no momentum"
        raise ConfigError(
            f"train.sync_batchnorm: a {type(norm).__name__} of {norm.num_features} channels has {what}, and cannot be "
            "synchronised; set it to false, or give it one"
        )
    synchronised = _kind(norm)(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    synchronised._parameters, synchronised._buffers, synchronised._modules = norm._parameters, norm._buffers, norm._modules
    return synchronised.train(norm.training)


def _kind(norm: _BatchNorm) -> type[SyncBatchNorm]:
    """Return the synchronised class for a layer, which computes what the layer's own class does besides."""
    module, name = type(norm).__module__, type(norm).__qualname__
    if type(norm).forward is _BatchNorm.forward or isinstance(norm, nn.SyncBatchNorm):
        return SyncBatchNorm
    if module.startswith("spikingjelly.") and name.startswith(("BatchNorm", "ThresholdDependentBatchNorm")):
        return _MultiStepSyncBatchNorm if getattr(norm, "step_mode", "s") == "m" else SyncBatchNorm
    if (module, name) == ("timm.layers.norm_act", "BatchNormAct2d"):
        return _ActivatedSyncBatchNorm
    raise ConfigError(
        f"train.sync_batchnorm: {module}.{name} has a forward pass of its own, which cannot be synchronised; set it to false, "
        "or choose another network"
    )


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation over all ranks through the default process group, on any device."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any input [N, C, ...]."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [N, C, ...] per channel; the shape stays."""
        if not self.training:
            return super().forward(input)
        if input.is_cuda:
            input = _dense(input)
            return _NormaliseOnGpu.apply(input, self.weight, self.bias, *_statistics_on_gpu(self, input.detach()))
        mean, var, count = statistics_over_ranks(self, input.detach())
        return _Normalise.apply(input, self.weight, self.bias, mean, (var + self.eps).rsqrt(), count)


class _MultiStep(nn.Module):
    """Mixin: time is folded into the batch."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [T, N, C, ...] per channel; the shape stays."""
        return super().forward(input.flatten(0, 1)).unflatten(0, input.shape[:2])


class _MultiStepSyncBatchNorm(_MultiStep, SyncBatchNorm):
    pass


class _ActivatedSyncBatchNorm(SyncBatchNorm):
    """With the dropout and the activation that are part of timm's layer."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [N, C, H, W] per channel, and activate."""
        drop, act = self.get_submodule("drop"), self.get_submodule("act")
        activated: Tensor = act(drop(super().forward(input)))
        return activated


class SyncRateBatchNorm2d(RateBatchNorm2d):
    """Batch normalisation for rate-based backpropagation with statistics over all ranks, in the spike pass and the rate pass."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [N, D, h, w] per channel; the shape stays."""
        if not self.training:
            return super().forward(x)
        if self.recording:
            mean, var, _ = statistics_over_ranks(self, x)
            self.mean, self.inverse_std = mean, (var + self.eps).rsqrt()
            return nn.functional.batch_norm(x, mean, var, self.weight, self.bias, False, 0.0, self.eps)
        mean, inverse_std = self.taken_statistics()
        count = torch.full_like(mean, x.numel() / x.shape[1] * dist.get_world_size())
        return _Normalise.apply(x, self.weight, self.bias, mean, inverse_std, count)


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


class _NormaliseOnGpu(torch.autograd.Function):
    """The same by the kernels of torch's SyncBatchNorm, which read the input in its own dtype and keep nothing else."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, inverse: Tensor, counts: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, mean, inverse, counts.to(torch.int32))
        return torch.batch_norm_elemt(x, weight, bias, mean, inverse, 0.0)  # eps is in `inverse`

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse, counts = ctx.saved_tensors
        upstream = _dense(gradients[0])
        sum_dy, sum_dy_xmu, grad_weight, grad_bias = torch.batch_norm_backward_reduce(
            upstream, x, mean, inverse, weight, True, True, True
        )
        everyone = torch.stack([sum_dy, sum_dy_xmu])
        dist.all_reduce(everyone)
        grad_x = torch.batch_norm_backward_elemt(upstream, x, mean, inverse, weight, everyone[0], everyone[1], counts)
        return grad_x, grad_weight, grad_bias, None, None, None


def _statistics_on_gpu(norm: _BatchNorm, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Update the running statistics; return mean, 1 / sqrt(var + eps) over all ranks, and the number of samples of each rank."""
    assert norm.momentum is not None, "a cumulative average is not implemented"
    x = _dense(x)
    mean, inverse = torch.batch_norm_stats(x, norm.eps)
    own = torch.cat([mean, inverse, mean.new_full((1,), x.numel() / x.shape[1])])
    everyone = own.new_empty(dist.get_world_size(), len(own))
    dist.all_gather_into_tensor(everyone, own)
    means, inverses, counts = everyone[:, : len(mean)], everyone[:, len(mean) : -1], everyone[:, -1]
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    mean, inverse = torch.batch_norm_gather_stats_with_counts(
        x, means, inverses, norm.running_mean, norm.running_var, norm.momentum, norm.eps, counts
    )
    return mean, inverse, counts


def _dense(x: Tensor) -> Tensor:
    """Return a tensor in a layout that those kernels take: channels last, or contiguous."""
    return x if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) else x.contiguous()


def statistics_over_ranks(norm: _BatchNorm, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Update the running statistics; return mean and biased variance [C], and the number of samples, over all ranks."""
    if x.is_cuda:
        mean, inverse, counts = _statistics_on_gpu(norm, x)
        return mean, inverse.square().reciprocal() - norm.eps, counts.sum()
    mean, var, count = _statistics(x)
    update_running(norm, mean, var, count)
    return mean, var, count


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
