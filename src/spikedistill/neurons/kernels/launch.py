"""What all kernels share: which tensors they can run on, and the options that they are compiled with.

Where Triton is not installed, its names are None, kernels stay plain functions that nobody calls, and `is_usable` says no.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spikedistill.neurons.dynamics import Dynamics

jit: Callable[..., Any]
try:
    import triton
    import triton.language as tl

    jit = triton.jit
except ImportError:
    triton = tl = None  # type: ignore[assignment]

    def jit(function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function itself."""
        return function


INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether Triton interprets kernels on the CPU; for tests without a GPU."""

OPTIONS = {"enable_fp_fusion": True}
"""Compiler options of every launch: a product and a sum may become one fused multiply-add, as in torch's own CUDA kernels.

It is set explicitly because Triton's default differs between versions (on up to 3.9, off from 3.10 on) and would change the
rounding of potentials with the version. Where two kernels must compute equal potentials, they use `tl.fma` and do not depend on
it.
"""

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def is_usable(x: Tensor) -> bool:
    """Return whether the kernels can take `x`."""
    on_device = x.is_cuda or (INTERPRETED and x.device.type == "cpu")
    return triton is not None and on_device and x.dtype in _DTYPES


def device_of(x: Tensor) -> Any:
    """Return the context to launch a kernel on the device of `x` in."""
    return torch.cuda.device(x.device if x.is_cuda else -1)


def integration(dynamics: Dynamics) -> dict[str, Any]:
    """Return the arguments of kernels that integrate potentials."""
    return {
        "decay": dynamics.decay,
        "threshold": dynamics.threshold,
        "v_reset": dynamics.v_reset or 0.0,
        "soft": dynamics.v_reset is None,
        "above": not dynamics.spike_at_threshold,
    }


def differentiation(dynamics: Dynamics) -> dict[str, Any]:
    """Return the arguments of kernels that differentiate: those of `integration`, and whatever else derivatives depend on."""
    return integration(dynamics) | {
        "alpha": dynamics.alpha,
        "detach_reset": dynamics.detach_reset,
        "triangle": dynamics.surrogate == "triangle",
    }
