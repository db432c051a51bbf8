"""The LIF neuron on a GPU, as two Triton kernels: each value is read once and written once.

The forward kernel reads x and writes spikes and float32 potentials h; the backward kernel reads potentials and upstream
gradients and writes the gradient with respect to x. The membrane potential stays in registers. A kernel cannot call torch, so
the equations of `neurons.dynamics` and the surrogate gradients are repeated here: change both together; `test_execution.py`
compares them. Letters: T step, N neuron.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from spikedistill.neurons.dynamics import Dynamics

try:
    import triton
    import triton.language as tl
except ImportError:  # the plain operations of `neurons.dynamics` serve instead
    triton = None  # type: ignore[assignment]

BLOCK = 1024
"""Neurons per program."""

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Triton interprets kernels on the CPU; for tests without a GPU."""


def is_usable(x: Tensor) -> bool:
    """Return whether the kernels can take `x`."""
    on_device = x.is_cuda or (INTERPRETED and x.device.type == "cpu")
    return triton is not None and on_device and x.dtype in (torch.float32, torch.float16, torch.bfloat16)


def integrate(x: Tensor, dynamics: Dynamics) -> tuple[Tensor, Tensor]:
    """Return the spikes, in the dtype of `x`, and the float32 potentials h of the currents x [T, N]."""
    x = x.contiguous()
    spikes, potential = torch.empty_like(x), torch.empty_like(x, dtype=torch.float32)
    steps, size = x.shape
    with _device_of(x):
        _forward[(_programs(size),)](x, spikes, potential, size, steps, **_constants(dynamics))
    return spikes, potential


def differentiate(upstream: Tensor, potential: Tensor, dynamics: Dynamics) -> Tensor:
    """Return the gradient with respect to x, in the dtype of `upstream`; arguments as in `dynamics.differentiate`, [T, N]."""
    upstream = upstream.contiguous()
    grad_x = torch.empty_like(upstream)
    steps, size = upstream.shape
    with _device_of(upstream):
        _backward[(_programs(size),)](
            upstream,
            potential,
            grad_x,
            size,
            steps,
            dynamics.alpha,
            **_constants(dynamics),
            detach_reset=dynamics.detach_reset,
            triangle=dynamics.surrogate == "triangle",
        )
    return grad_x


def _programs(size: int) -> int:
    return -(-size // BLOCK)


def _device_of(x: Tensor) -> Any:
    return torch.cuda.device(x.device if x.is_cuda else -1)


def _constants(dynamics: Dynamics) -> dict[str, Any]:
    return {
        "decay": dynamics.decay,
        "threshold": dynamics.threshold,
        "v_reset": dynamics.v_reset or 0.0,
        "soft": dynamics.v_reset is None,
        "above": not dynamics.spike_at_threshold,
        "block": BLOCK,
    }


if triton is not None:

    @triton.jit
    def _forward(  # type: ignore[no-untyped-def]  # noqa: PLR0913
        x_ptr,
        spikes_ptr,
        potential_ptr,
        size,
        steps: tl.constexpr,
        decay: tl.constexpr,
        threshold: tl.constexpr,
        v_reset: tl.constexpr,
        soft: tl.constexpr,
        above: tl.constexpr,
        block: tl.constexpr,
    ):
        place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
        inside = place < size
        v = tl.zeros([block], tl.float32)
        for _ in tl.static_range(steps):
            h = v * decay + tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
            fired = h > threshold if above else h >= threshold
            s = fired.to(tl.float32)
            tl.store(spikes_ptr + place, s.to(spikes_ptr.dtype.element_ty), mask=inside)
            tl.store(potential_ptr + place, h, mask=inside)
            if soft:  # noqa: SIM108 - chosen when the kernel is compiled
                v = h - threshold * s
            else:
                v = (1 - s) * h + s * v_reset
            x_ptr += size
            spikes_ptr += size
            potential_ptr += size

    @triton.jit
    def _backward(  # type: ignore[no-untyped-def]  # noqa: PLR0913
        upstream_ptr,
        potential_ptr,
        grad_ptr,
        size,
        steps: tl.constexpr,
        alpha: tl.constexpr,
        decay: tl.constexpr,
        threshold: tl.constexpr,
        v_reset: tl.constexpr,
        soft: tl.constexpr,
        above: tl.constexpr,
        block: tl.constexpr,
        detach_reset: tl.constexpr,
        triangle: tl.constexpr,
    ):
        place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
        inside = place < size
        place += size.to(tl.int64) * (steps - 1)
        later = tl.zeros([block], tl.float32)
        for _ in tl.static_range(steps):
            h = tl.load(potential_ptr + place, mask=inside, other=0.0)
            g = tl.load(upstream_ptr + place, mask=inside, other=0.0).to(tl.float32)
            if triangle:
                derivative = alpha * tl.maximum(1 - alpha * tl.abs(h - threshold), 0.0)
            else:
                y = tl.sigmoid(alpha * (h - threshold))
                derivative = alpha * y * (1 - y)
            if soft:
                kept = tl.full([block], 1.0, tl.float32)
                if not detach_reset:
                    kept -= threshold * derivative
            else:
                fired = h > threshold if above else h >= threshold
                kept = 1 - fired.to(tl.float32)
                if not detach_reset:
                    kept += (v_reset - h) * derivative
            later = derivative * g + decay * later * kept
            tl.store(grad_ptr + place, later.to(grad_ptr.dtype.element_ty), mask=inside)
            place -= size
