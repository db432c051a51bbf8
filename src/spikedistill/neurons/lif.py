"""The leaky integrate-and-fire neuron over all time steps at once, with its exact backward pass in closed form.

    h[t] = decay * v[t-1] + x[t]            v[-1] = 0; the input is not scaled
    s[t] = 1 where h[t] >= threshold        or h[t] > threshold, see `fires`; derivative in backward: a surrogate
    v[t] = (1 - s[t]) * h[t] + s[t] * v_reset    hard reset
    v[t] = h[t] - threshold * s[t]               soft reset (v_reset is None)

Letters: T step, B batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spikedistill.neurons.settings import Fires, NeuronConfig, Surrogate
from spikedistill.neurons.surrogate import DERIVATIVES

COMPARISONS: dict[Fires, Callable[..., Tensor]] = {"at": torch.ge, "above": torch.gt}
"""By name in the config: what a potential and the threshold must fulfil for a spike."""


def lif(
    x_seq: Tensor,
    *,
    decay: float,
    threshold: float,
    v_reset: float | None,
    detach_reset: bool,
    alpha: float,
    surrogate: Surrogate = "sigmoid",
    fires: Fires = "at",
) -> Tensor:
    """Spikes of a layer of LIF neurons that starts at rest.

    Args:
        x_seq: input current [T, B, ...]; float16 and bfloat16 are integrated in float32.
        decay: share of the membrane potential kept per step, in [0, 1).
        threshold: potential at which a neuron fires.
        v_reset: potential after a spike (hard reset); None subtracts the threshold (soft reset).
        detach_reset: treat the spike in the reset as a constant in backward.
        alpha: slope of the surrogate.
        surrogate: what takes the place of the derivative of a spike, see `neurons.surrogate`.
        fires: whether a potential equal to the threshold fires.

    Returns:
        Spikes, 0 or 1, of the shape and dtype of `x_seq`.
    """
    return _Lif.apply(x_seq, _Dynamics(decay, threshold, v_reset, detach_reset, alpha, surrogate, fires))


class _Dynamics(NamedTuple):
    decay: float
    threshold: float
    v_reset: float | None
    detach_reset: bool
    alpha: float
    surrogate: Surrogate
    fires: Fires


class _Lif(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_seq: Tensor, dynamics: _Dynamics) -> Tensor:
        x = x_seq if x_seq.dtype in (torch.float32, torch.float64) else x_seq.float()
        potential = torch.empty_like(x)
        spikes = torch.empty_like(x)
        v = torch.zeros_like(x[0])
        for t in range(len(x)):
            h = torch.add(x[t], v, alpha=dynamics.decay, out=potential[t])
            fired = COMPARISONS[dynamics.fires](h, dynamics.threshold)
            spikes[t] = fired
            if dynamics.v_reset is None:
                v = torch.sub(h, spikes[t], alpha=dynamics.threshold)
            else:
                v = h.masked_fill(fired, dynamics.v_reset)
        ctx.save_for_backward(potential)
        ctx.dynamics = dynamics
        return spikes.to(x_seq.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (potential,) = ctx.saved_tensors
        dynamics: _Dynamics = ctx.dynamics
        upstream = gradients[0].to(potential.dtype)
        derivative = DERIVATIVES[dynamics.surrogate](potential, dynamics.threshold, dynamics.alpha)
        kept = _reset_derivative(potential[:-1], derivative[:-1], dynamics)
        grad_x = derivative.mul_(upstream)
        for t in range(len(potential) - 2, -1, -1):
            grad_x[t].addcmul_(kept[t], grad_x[t + 1], value=dynamics.decay)
        return grad_x.to(gradients[0].dtype), None


def _reset_derivative(potential: Tensor, derivative: Tensor, dynamics: _Dynamics) -> Tensor:
    """dv[t] / dh[t], where `derivative` is ds[t] / dh[t]."""
    if dynamics.v_reset is None:
        return torch.ones_like(potential) if dynamics.detach_reset else 1 - dynamics.threshold * derivative
    kept = COMPARISONS[dynamics.fires](potential, dynamics.threshold).logical_not_().to(potential.dtype)
    return kept if dynamics.detach_reset else kept.addcmul_(dynamics.v_reset - potential, derivative)


class LIF(nn.Module):
    """A layer of LIF neurons on time-folded input [T * B, ...], row t * B + b; it has no parameters and keeps no state."""

    def __init__(self, neuron: NeuronConfig, time_steps: int) -> None:
        """Create a layer that runs `time_steps` steps per forward."""
        super().__init__()
        self.neuron = neuron
        self.time_steps = time_steps

    def forward(self, x: Tensor) -> Tensor:
        """Spikes [T * B, ...] of the currents [T * B, ...]."""
        neuron = self.neuron
        spikes = lif(
            x.unflatten(0, (self.time_steps, -1)),
            decay=neuron.decay,
            threshold=neuron.threshold,
            v_reset=0.0 if neuron.reset == "hard" else None,
            detach_reset=neuron.detach_reset,
            alpha=neuron.alpha,
            surrogate=neuron.surrogate,
            fires=neuron.fires,
        )
        return spikes.flatten(0, 1)

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        return f"time_steps={self.time_steps}, {self.neuron}"
