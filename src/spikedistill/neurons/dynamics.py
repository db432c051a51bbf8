"""The LIF equations, as elementwise functions over time; `neurons.execution` selects the backend.

    h[t] = decay * v[t-1] + x[t]            v[-1] = 0; the input is not scaled
    s[t] = 1 where h[t] >= threshold        or h[t] > threshold, see `spike_at_threshold`; its gradient is a surrogate
    v[t] = (1 - s[t]) * h[t] + s[t] * v_reset    hard reset
    v[t] = h[t] - threshold * s[t]               soft reset (v_reset is None)

x is the input current, h the membrane potential before, v the one after the reset. float16 and bfloat16 are computed in
float32. The equations are written in only one other place: `neurons.kernels.equations` repeats them in Triton, and tests
compare the two. Letters: T step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from spikedistill.neurons.settings import NeuronConfig, Surrogate
from spikedistill.neurons.surrogate import DERIVATIVES


class Dynamics(NamedTuple):
    """The parameters of `NeuronConfig` in the form that the equations take: hashable, and v_reset None is a soft reset."""

    decay: float
    threshold: float
    v_reset: float | None
    detach_reset: bool
    alpha: float
    surrogate: Surrogate = "sigmoid"
    spike_at_threshold: bool = True

    @classmethod
    def from_config(cls, neuron: NeuronConfig) -> Dynamics:
        """Return the parameters that a configuration describes; a hard reset sets the potential to 0."""
        return cls(
            decay=neuron.decay,
            threshold=neuron.threshold,
            v_reset=0.0 if neuron.reset == "hard" else None,
            detach_reset=neuron.detach_reset,
            alpha=neuron.alpha,
            surrogate=neuron.surrogate,
            spike_at_threshold=neuron.spike_at_threshold,
        )


def integrate(x: Tensor, dynamics: Dynamics) -> tuple[Tensor, Tensor]:
    """Return the spikes, in the dtype of `x`, and the potentials h of the currents x [T, ...]."""
    potential, spikes, v = [], [], None
    for x_t in x.unbind(0):
        h = to_float32(x_t) if v is None else torch.add(x_t, v, alpha=dynamics.decay)
        s = _fire(h, dynamics)
        potential.append(h)
        spikes.append(s)
        v = _reset(h, s, dynamics)
    return torch.stack(spikes).to(x.dtype), torch.stack(potential)


def differentiate(upstream: Tensor, potential: Tensor, dynamics: Dynamics) -> tuple[Tensor]:
    """Return the gradient with respect to x, in the dtype of `upstream`.

    Args:
        upstream: gradient with respect to the spikes [T, ...].
        potential: h [T, ...], as `integrate` returned it.
        dynamics: the parameters.
    """
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
    """Run the neurons on the currents x [T, ...] and return what rate-based backpropagation keeps, see `neurons.rate`.

    Returns:
        Spikes [T, ...] in the dtype of `x`; mean firing rate and eligibility [...].
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


def potentials_after_reset(x: Tensor, spikes: Tensor, dynamics: Dynamics) -> Iterator[Tensor]:
    """Yield v[t] for each step, given the currents x [T, ...] and the spikes [T, ...] that they caused."""
    v = None
    for x_t, s in zip(x.unbind(0), spikes.unbind(0), strict=True):
        h = to_float32(x_t) if v is None else torch.add(x_t, v, alpha=dynamics.decay)
        v = _reset(h, s.to(h.dtype), dynamics)
        yield v


def to_float32(x: Tensor) -> Tensor:
    """Return `x` in float32; float64 stays float64."""
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
    """Return dv[t] / dh[t], where `derivative` is ds[t] / dh[t]."""
    if dynamics.v_reset is None:
        return torch.ones_like(h) if dynamics.detach_reset else 1 - dynamics.threshold * derivative
    kept = 1 - _fire(h, dynamics)
    return kept if dynamics.detach_reset else kept + (dynamics.v_reset - h) * derivative
