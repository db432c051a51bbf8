"""What a LIF neuron does, once: plain elementwise functions of currents over time, which `neurons.execution` makes fast.

    h[t] = decay * v[t-1] + x[t]            v[-1] = 0; the input is not scaled
    s[t] = 1 where h[t] >= threshold        or h[t] > threshold, see `spike_at_threshold`; derivative in backward: a surrogate
    v[t] = (1 - s[t]) * h[t] + s[t] * v_reset    hard reset
    v[t] = h[t] - threshold * s[t]               soft reset (v_reset is None)

float16 and bfloat16 are computed in float32. Letters: T step.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from spikedistill.neurons.settings import Surrogate
from spikedistill.neurons.surrogate import DERIVATIVES


class Dynamics(NamedTuple):
    """The parameters of a neuron, see `neurons.settings`; v_reset None is a soft reset."""

    decay: float
    threshold: float
    v_reset: float | None
    detach_reset: bool
    alpha: float
    surrogate: Surrogate = "sigmoid"
    spike_at_threshold: bool = True


def integrate(x: Tensor, dynamics: Dynamics) -> tuple[Tensor, Tensor]:
    """Spikes, in the dtype of `x`, and potentials h of the currents x [T, ...]."""
    potential, spikes, v = [], [], None
    for x_t in x.unbind(0):
        h = to_float32(x_t) if v is None else torch.add(x_t, v, alpha=dynamics.decay)
        s = _fire(h, dynamics)
        potential.append(h)
        spikes.append(s)
        v = _reset(h, s, dynamics)
    return torch.stack(spikes).to(x.dtype), torch.stack(potential)


def differentiate(upstream: Tensor, potential: Tensor, dynamics: Dynamics) -> tuple[Tensor]:
    """The gradient into x, given that into the spikes and the potentials h, all [T, ...]; in the dtype of `upstream`."""
    gradients: list[Tensor] = []
    for g_t, h in zip(reversed(upstream.unbind(0)), reversed(potential.unbind(0)), strict=True):
        derivative = DERIVATIVES[dynamics.surrogate](h, dynamics.threshold, dynamics.alpha)
        into_h = derivative * g_t
        if gradients:
            kept = _reset_derivative(h, derivative, dynamics)
            into_h = torch.addcmul(into_h, kept, gradients[-1], value=dynamics.decay)
        gradients.append(into_h)
    return (torch.stack(gradients[::-1]).to(upstream.dtype),)


def spike_statistics(x: Tensor, dynamics: Dynamics) -> tuple[Tensor, Tensor, Tensor]:
    """What rate-based backpropagation needs of the currents x [T, ...], see `neurons.rate`.

    Returns:
        Spikes [T, ...] in the dtype of `x`; mean rate and eligibility [...].
    """
    spikes, v, kappa, eligibility, rate = [], None, None, None, None
    for x_t in x.unbind(0):
        h = to_float32(x_t) if v is None else torch.add(x_t, v, alpha=dynamics.decay)
        s = _fire(h, dynamics)
        derivative = DERIVATIVES[dynamics.surrogate](h, dynamics.threshold, dynamics.alpha)
        kept = _reset_derivative(h, derivative, dynamics)
        spikes.append(s)
        v = _reset(h, s, dynamics)
        if kappa is None or eligibility is None or rate is None:
            rate, eligibility, kappa = s, derivative, 1 + dynamics.decay * kept
        else:
            rate, eligibility = rate + s, torch.addcmul(eligibility, kappa, derivative)
            kappa = 1 + dynamics.decay * (kappa * kept)
    assert rate is not None and eligibility is not None, "there is at least one step"
    return torch.stack(spikes).to(x.dtype), rate / len(x), eligibility / len(x)


def to_float32(x: Tensor) -> Tensor:
    """The same in float32, where it is not in float64 already."""
    return x if x.dtype == torch.float64 else x.float()


def _fire(h: Tensor, dynamics: Dynamics) -> Tensor:
    compare = torch.ge if dynamics.spike_at_threshold else torch.gt
    return compare(h, dynamics.threshold).to(h.dtype)


def _reset(h: Tensor, s: Tensor, dynamics: Dynamics) -> Tensor:
    if dynamics.v_reset is None:
        return torch.sub(h, s, alpha=dynamics.threshold)
    v = (1 - s) * h
    return torch.add(v, s, alpha=dynamics.v_reset) if dynamics.v_reset else v


def _reset_derivative(h: Tensor, derivative: Tensor, dynamics: Dynamics) -> Tensor:
    """dv[t] / dh[t], where `derivative` is ds[t] / dh[t]."""
    if dynamics.v_reset is None:
        return torch.ones_like(h) if dynamics.detach_reset else 1 - dynamics.threshold * derivative
    kept = 1 - _fire(h, dynamics)
    return kept if dynamics.detach_reset else kept + (dynamics.v_reset - h) * derivative
