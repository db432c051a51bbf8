"""The LIF neuron as two kernels: each value is read once and written once; the membrane potential stays in registers.

The forward kernel reads x and writes spikes and float32 potentials h; the backward kernel reads potentials and upstream
gradients and writes the gradient with respect to x. Letters: T step, N neuron.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spikedistill.neurons.dynamics import Dynamics
from spikedistill.neurons.kernels.equations import charge, fire, propagate, reset
from spikedistill.neurons.kernels.launch import OPTIONS, device_of, differentiation, integration, jit, tl

BLOCK = 1024
"""Neurons per program."""


def integrate(x: Tensor, dynamics: Dynamics) -> tuple[Tensor, Tensor]:
    """Return the spikes, in the dtype of `x`, and the float32 potentials h of the currents x [T, N]."""
    x = x.contiguous()
    spikes, potential = torch.empty_like(x), torch.empty_like(x, dtype=torch.float32)
    steps, size = x.shape
    with device_of(x):
        _forward[(programs(size),)](x, spikes, potential, size, steps, block=BLOCK, **integration(dynamics), **OPTIONS)
    return spikes, potential


def differentiate(upstream: Tensor, potential: Tensor, dynamics: Dynamics) -> Tensor:
    """Return the gradient with respect to x, in the dtype of `upstream`; arguments as in `dynamics.differentiate`, [T, N]."""
    upstream = upstream.contiguous()
    grad_x = torch.empty_like(upstream)
    steps, size = upstream.shape
    with device_of(upstream):
        _backward[(programs(size),)](
            upstream, potential, grad_x, size, steps, block=BLOCK, **differentiation(dynamics), **OPTIONS
        )
    return grad_x


def programs(size: int) -> int:
    """Return how many programs `size` neurons take."""
    return -(-size // BLOCK)


@jit
def _forward(  # type: ignore[no-untyped-def]  # noqa: PLR0913
    x_ptr,
    spikes_ptr,
    potential_ptr,
    size,
    steps: tl.constexpr,
    block: tl.constexpr,
    decay: tl.constexpr,
    threshold: tl.constexpr,
    v_reset: tl.constexpr,
    soft: tl.constexpr,
    above: tl.constexpr,
):
    place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = place < size
    v = tl.zeros([block], tl.float32)
    for _ in tl.static_range(steps):
        h = charge(tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32), v, decay)
        s = fire(h, threshold, above)
        tl.store(spikes_ptr + place, s.to(spikes_ptr.dtype.element_ty), mask=inside)
        tl.store(potential_ptr + place, h, mask=inside)
        v = reset(h, s, threshold, v_reset, soft)
        x_ptr += size
        spikes_ptr += size
        potential_ptr += size


@jit
def _backward(  # type: ignore[no-untyped-def]  # noqa: PLR0913
    upstream_ptr,
    potential_ptr,
    grad_ptr,
    size,
    steps: tl.constexpr,
    block: tl.constexpr,
    decay: tl.constexpr,
    threshold: tl.constexpr,
    v_reset: tl.constexpr,
    soft: tl.constexpr,
    above: tl.constexpr,
    alpha: tl.constexpr,
    detach_reset: tl.constexpr,
    triangle: tl.constexpr,
):
    place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = place < size
    place += tl.cast(size, tl.int64) * (steps - 1)
    later = tl.zeros([block], tl.float32)
    for _ in tl.static_range(steps):
        h = tl.load(potential_ptr + place, mask=inside, other=0.0)
        g = tl.load(upstream_ptr + place, mask=inside, other=0.0).to(tl.float32)
        later = propagate(h, g, later, decay, threshold, v_reset, soft, above, alpha, detach_reset, triangle)
        tl.store(grad_ptr + place, later.to(grad_ptr.dtype.element_ty), mask=inside)
        place -= size
