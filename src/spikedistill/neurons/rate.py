"""Rate-based backpropagation (arXiv 2410.11488), multi-step: training memory that does not grow with T.

A training forward has two passes. The spike pass runs all T steps without an autograd graph; each neuron keeps its mean
firing rate and its eligibility, each batch normalisation its statistics. The rate pass runs every layer once, with a graph, on
inputs averaged over time: its values are the means of the spike pass, its gradients are those of the mean firing rates.

    kappa[1] = 1,   kappa[t+1] = 1 + decay * kappa[t] * dv[t]/dh[t]
    eligibility e = (1/T) sum over t of kappa[t] * g[t]        g[t] is the surrogate gradient at h[t]
    LIF in the rate pass: value r = (1/T) sum over t of s[t], derivative e, elementwise

e is exactly the derivative of the mean firing rate with respect to a constant added to the input at every step. Gradients are
therefore exact for layers whose input is constant over time, and approximate elsewhere.

Letters: T step, B batch, D channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.torch_version import TorchVersion

from spikedistill.errors import ConfigError
from spikedistill.neurons.lif import LIF
from spikedistill.neurons.neuron import SpikingNeuron


class RateModule(nn.Module):
    """A module with two passes per training forward; in evaluation it behaves like the module that it replaces.

    Attributes:
        recording: whether the spike pass is running.
    """

    recording = False


_CASTS_LOSE_GRADIENTS = TorchVersion(torch.__version__) < "2.11"
"""Whether autocast hands weights that it cast without an autograd graph to a pass that needs one.

Torch 2.10 and before do (https://github.com/pytorch/pytorch/issues/112583); 2.11 does not.
"""


@contextmanager
def spike_pass(network: nn.Module) -> Iterator[None]:
    """Run the spike pass of `network` in the block: no autograd graph; statistics are kept for the rate pass.

    Autocast casts each weight once for both passes, if the installed torch can do so without losing gradients.
    """
    modules = [module for module in network.modules() if isinstance(module, RateModule)]
    keeps_casts = torch.is_autocast_cache_enabled()
    for module in modules:
        module.recording = True
    torch.set_autocast_cache_enabled(keeps_casts and not _CASTS_LOSE_GRADIENTS)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_autocast_cache_enabled(keeps_casts)
        for module in modules:
            module.recording = False


def convert_to_rate(network: nn.Module, time_steps: int) -> None:
    """Replace every nonlinear layer by its `RateModule`, in place; one that is a `RateModule` already stays.

    Parameters keep their names, so converted and other networks can load each other's weights.

    Args:
        network: a network whose neurons support "rate".
        time_steps: T.

    Raises:
        ConfigError: if they do not, if a batch normalisation normalises in its own way, or if another layer of torch does not
            commute with the mean over time.
    """
    _convert(network, time_steps, "", {})


def _convert(module: nn.Module, time_steps: int, path: str, replaced: dict[nn.Module, nn.Module]) -> None:
    """Convert what is below a module at `path`; a layer at two places is one at both, as before."""
    for name, child in list(module._modules.items()):
        where = f"{path}{name}"
        if child in replaced:
            module._modules[name] = replaced[child]
        elif child is None or isinstance(child, RateModule):  # what is in such a module is its own affair
            continue
        elif isinstance(child, SpikingNeuron):
            module._modules[name] = replaced[child] = _with_rate_pass(child)
        elif isinstance(child, nn.BatchNorm2d):
            _check_batchnorm(child, where)
            module._modules[name] = replaced[child] = RateBatchNorm2d.from_batchnorm(child)
        elif isinstance(child, nn.MaxPool2d | nn.ReLU):
            module._modules[name] = replaced[child] = StraightThrough(child, time_steps)
        elif _is_nonlinear(child):
            raise ConfigError(f"layer {where}: {type(child).__name__} {_NO_RATE_PASS}")
        else:
            _convert(child, time_steps, f"{where}.", replaced)


_NO_RATE_PASS = (
    "has no rate-based backward pass; set student.backward to bptt, or make the layer a spikedistill.neurons.rate.RateModule"
)
_NONLINEAR = tuple(f"torch.nn.modules.{name}" for name in ("activation", "normalization", "batchnorm", "instancenorm", "rnn"))
"""Modules of torch whose layers do not commute with the mean over time."""


def _is_nonlinear(layer: nn.Module) -> bool:
    """Return True for a layer of torch itself that is known not to commute with the mean over time."""
    if isinstance(layer, nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d):
        return layer.p > 0  # each pass would draw its own mask
    kind = type(layer)
    is_maximum = kind.__module__ == "torch.nn.modules.pooling" and "Max" in kind.__name__
    return kind.__module__ in _NONLINEAR or is_maximum


ONE_VALUE = (
    "one value per channel, as maps are 1x1 and a rank has a single sample, so there is no variance: use a larger "
    "train.batch_size, fewer ranks, a smaller engine.accumulate, or larger inputs"
)


def _check_batchnorm(norm: nn.BatchNorm2d, path: str) -> None:
    """Check that `RateBatchNorm2d` normalises as `norm` does."""
    if type(norm).forward is not nn.BatchNorm2d.forward:
        what = "its forward is not that of torch"
    elif norm.momentum is None or not norm.track_running_stats:
        what = "it keeps no running statistics with a momentum"
    elif not norm.affine:
        what = "it has no weight and bias"
    else:
        return
    raise ConfigError(f"layer {path}: {type(norm).__name__} {_NO_RATE_PASS}; {what}")


class _ValueWithGradient(torch.autograd.Function):
    """Returns `value`; backward multiplies the upstream gradient by `derivative` and passes it to `x`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, derivative: Tensor) -> Tensor:
        ctx.save_for_backward(derivative)
        return value.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (derivative,) = ctx.saved_tensors
        return (gradients[0] * derivative).to(gradients[0].dtype), None, None


_USED_TWICE = (
    "a layer of the network ran more often in the rate pass than before it in the spike pass: with student.backward: rate each "
    "place of the network needs a layer of its own, which keeps what it did; make two, or set student.backward to bptt"
)


class RateNeuron(RateModule, SpikingNeuron):
    """Neurons on [T * B, ...] in the spike pass, on mean currents [B, ...] in the rate pass; mixed into the class of a neuron."""

    rate: Tensor | None = None
    eligibility: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return spikes in the spike pass and in evaluation, mean firing rates in the rate pass."""
        if not self.training:
            return super().forward(x)
        if self.recording:
            spikes, self.rate, self.eligibility = self.rate_statistics(x.unflatten(0, (self.time_steps, -1)))
            return spikes.flatten(0, 1)
        rate, eligibility = self.rate, self.eligibility
        self.rate = self.eligibility = None
        if rate is None or eligibility is None:
            raise ConfigError(_USED_TWICE)
        return _ValueWithGradient.apply(x, rate, eligibility)


class RateLIF(RateNeuron, LIF):
    """LIF neurons of a network that trains with rate-based backpropagation."""


def _with_rate_pass(neuron: SpikingNeuron) -> RateNeuron:
    """Return a neuron with a rate pass: the same parameters under the same names."""
    if type(neuron).rate_statistics is SpikingNeuron.rate_statistics:
        raise ConfigError(f"neuron {neuron.neuron.name!r} has no rate-based backward pass; set student.backward to bptt")
    kind = type(neuron)
    neuron.__class__ = RateLIF if kind is LIF else type(f"Rate{kind.__name__}", (RateNeuron, kind), {})
    assert isinstance(neuron, RateNeuron)
    return neuron


class StraightThrough(RateModule):
    """A layer that does not commute with the mean over time: in the rate pass, the spike pass's mean with its own gradient."""

    def __init__(self, layer: nn.Module, time_steps: int) -> None:
        """Wrap `layer`."""
        super().__init__()
        self.layer = layer
        self.time_steps = time_steps
        self.mean: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output; in the rate pass, its mean over time."""
        y = self.layer(x)
        if not self.training:
            return y
        if self.recording:
            self.mean = y.unflatten(0, (self.time_steps, -1)).mean(0)
            return y
        mean, self.mean = self.mean, None
        if mean is None:
            raise ConfigError(_USED_TWICE)
        return y + (mean - y).detach()


class RateBatchNorm2d(RateModule, nn.BatchNorm2d):
    """Batch normalisation whose rate pass uses the statistics of the spike pass and leaves the running statistics alone.

    Mean and variance take their values from the spike pass, over (T * B, h, w), and their gradients from the input of the rate
    pass, over (B, h, w).
    """

    mean: Tensor | None = None
    inverse_std: Tensor | None = None

    @classmethod
    def from_batchnorm(cls, norm: nn.BatchNorm2d) -> RateBatchNorm2d:
        """Return a layer that shares the parameters and buffers of `norm`."""
        new = cls(norm.num_features, eps=norm.eps, momentum=norm.momentum)
        new.weight, new.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            setattr(new, name, buffer)
        new.train(norm.training)
        return new

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [N, D, h, w].

        Raises:
            ConfigError: if there is one value per channel, whose variance over samples is unknown.
        """
        if not self.training:
            return super().forward(x)
        if self.recording:
            if x.numel() == x.shape[1]:
                raise ConfigError(f"batch normalisation: {ONE_VALUE}")
            assert self.momentum is not None and self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            y, self.mean, self.inverse_std = torch.native_batch_norm(
                x, self.weight, self.bias, self.running_mean, self.running_var, True, self.momentum, self.eps
            )
            return y
        return _RateNorm.apply(x, self.weight, self.bias, *self.taken_statistics(), self.eps)

    def taken_statistics(self) -> tuple[Tensor, Tensor]:
        """Return mean and inverse standard deviation [D] of the spike pass, once.

        Raises:
            ConfigError: if they were taken already.
        """
        mean, inverse_std = self.mean, self.inverse_std
        self.mean = self.inverse_std = None
        if mean is None or inverse_std is None:
            raise ConfigError(_USED_TWICE)
        return mean, inverse_std


class _RateNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, inverse_std: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight, mean, inverse_std)
        ctx.eps = eps
        variance = inverse_std.pow(-2).sub_(eps).clamp_(min=0)
        return nn.functional.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse_std = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last if _channels_last(x) else torch.contiguous_format)
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, None, None, mean, inverse_std, True, ctx.eps, [True, True, True]
        )
        return grad_x, grad_weight, grad_bias, None, None, None


def _channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)
