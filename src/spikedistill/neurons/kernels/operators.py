"""The kernels of the LIF neuron as torch.compile sees them: operators that stay as they are in a compiled block.

Plain operations over time would be compiled into code that moves far more bytes: it stacks the steps through another memory
order, and writes spikes in float32 before it casts them. The functions are those of `kernels.lif` and `kernels.rate`, which they
call directly where nothing is compiled. Letters: T step, N neuron.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spikedistill.neurons.dynamics import Dynamics
from spikedistill.neurons.kernels import lif, rate

_DYNAMICS = "float decay, float threshold, float? v_reset, bool detach_reset, float alpha, str surrogate, bool spike_at_threshold"
"""The fields of `Dynamics`, since an operator cannot take a named tuple."""


def integrate(x: Tensor, dynamics: Dynamics) -> tuple[Tensor, Tensor]:
    """Return the spikes and the float32 potentials of the currents x [T, N]."""
    return _integrate(x, *dynamics) if torch.compiler.is_compiling() else lif.integrate(x, dynamics)


def differentiate(upstream: Tensor, potential: Tensor, dynamics: Dynamics) -> Tensor:
    """Return the gradient with respect to x [T, N], given that with respect to the spikes, and the potentials."""
    if torch.compiler.is_compiling():
        return _differentiate(upstream, potential, *dynamics)
    return lif.differentiate(upstream, potential, dynamics)


def spike_statistics(x: Tensor, dynamics: Dynamics) -> tuple[Tensor, Tensor, Tensor]:
    """Return spikes [T, N], mean firing rate and eligibility [N] of the currents x [T, N]."""
    return _spike_statistics(x, *dynamics) if torch.compiler.is_compiling() else rate.spike_statistics(x, dynamics)


@torch.library.custom_op("spikedistill::lif_integrate", mutates_args=(), schema=f"(Tensor x, {_DYNAMICS}) -> (Tensor, Tensor)")
def _integrate(x: Tensor, *dynamics: Any) -> tuple[Tensor, Tensor]:
    return lif.integrate(x, Dynamics(*dynamics))


@_integrate.register_fake
def _(x: Tensor, *dynamics: Any) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape, dtype=torch.float32)


@torch.library.custom_op(
    "spikedistill::lif_differentiate", mutates_args=(), schema=f"(Tensor upstream, Tensor potential, {_DYNAMICS}) -> Tensor"
)
def _differentiate(upstream: Tensor, potential: Tensor, *dynamics: Any) -> Tensor:
    return lif.differentiate(upstream, potential, Dynamics(*dynamics))


@_differentiate.register_fake
def _(upstream: Tensor, potential: Tensor, *dynamics: Any) -> Tensor:
    return upstream.new_empty(upstream.shape)


@torch.library.custom_op(
    "spikedistill::lif_spike_statistics", mutates_args=(), schema=f"(Tensor x, {_DYNAMICS}) -> (Tensor, Tensor, Tensor)"
)
def _spike_statistics(x: Tensor, *dynamics: Any) -> tuple[Tensor, Tensor, Tensor]:
    return rate.spike_statistics(x, Dynamics(*dynamics))


@_spike_statistics.register_fake
def _(x: Tensor, *dynamics: Any) -> tuple[Tensor, Tensor, Tensor]:
    rate, eligibility = (x.new_empty(x.shape[1:], dtype=torch.float32) for _ in range(2))
    return x.new_empty(x.shape), rate, eligibility
