"""What rate-based backpropagation keeps of LIF neurons, in one kernel: currents are read once, spikes written once.

Mean firing rates and eligibilities are sums over time that stay in registers, so there is one launch per layer, whatever T is.
Letters: T step, N neuron.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spikedistill.neurons.dynamics import Dynamics
from spikedistill.neurons.kernels.equations import charge, fire, reset, reset_derivative, surrogate
from spikedistill.neurons.kernels.launch import OPTIONS, device_of, differentiation, jit, tl
from spikedistill.neurons.kernels.lif import BLOCK, programs


def spike_statistics(x: Tensor, dynamics: Dynamics) -> tuple[Tensor, Tensor, Tensor]:
    """Return spikes [T, N] in the dtype of `x`, float32 mean firing rate and eligibility [N], as `dynamics.spike_statistics`."""
    x = x.contiguous()
    steps, size = x.shape
    spikes = torch.empty_like(x)
    rate, eligibility = (torch.empty(size, dtype=torch.float32, device=x.device) for _ in range(2))
    with device_of(x):
        _statistics[(programs(size),)](
            x, spikes, rate, eligibility, size, steps, block=BLOCK, **differentiation(dynamics), **OPTIONS
        )
    return spikes, rate, eligibility


@jit
def _statistics(  # type: ignore[no-untyped-def]  # noqa: PLR0913
    x_ptr,
    spikes_ptr,
    rate_ptr,
    eligibility_ptr,
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
    v = tl.zeros([block], tl.float32)
    rate = tl.zeros([block], tl.float32)
    eligibility = tl.zeros([block], tl.float32)
    kappa = tl.full([block], 1.0, tl.float32)
    for _ in tl.static_range(steps):
        h = charge(tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32), v, decay)
        s = fire(h, threshold, above)
        derivative = surrogate(h, threshold, alpha, triangle)
        kept = reset_derivative(h, derivative, threshold, v_reset, soft, above, detach_reset)
        tl.store(spikes_ptr + place, s.to(spikes_ptr.dtype.element_ty), mask=inside)
        v = reset(h, s, threshold, v_reset, soft)
        rate += s
        eligibility += kappa * derivative
        kappa = 1 + decay * (kappa * kept)
        x_ptr += size
        spikes_ptr += size
    tl.store(rate_ptr + place, rate / steps, mask=inside)
    tl.store(eligibility_ptr + place, eligibility / steps, mask=inside)
