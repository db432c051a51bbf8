"""The equations of `neurons.dynamics` and the surrogate gradients of `neurons.surrogate`, in Triton.

A kernel cannot call torch, so they are repeated here, once for all kernels: change both together; `test_kernels.py` compares
them. Everything is float32. The names are those of `neurons.dynamics`: h potential before, v after the reset, s spike.
"""

from __future__ import annotations

from spikedistill.neurons.kernels.launch import jit, tl


@jit
def charge(x, v, decay: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return h, as one fused multiply-add in every kernel, so that recomputed potentials are bit-identical."""
    return tl.fma(v, decay, x)


@jit
def fire(h, threshold: tl.constexpr, above: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the spikes; with `above`, a potential that equals the threshold does not fire."""
    fired = h > threshold if above else h >= threshold
    return fired.to(tl.float32)


@jit
def reset(h, s, threshold: tl.constexpr, v_reset: tl.constexpr, soft: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return v."""
    if soft:
        return h - threshold * s
    else:
        return (1 - s) * h + s * v_reset


@jit
def surrogate(h, threshold: tl.constexpr, alpha: tl.constexpr, triangle: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return ds / dh."""
    if triangle:
        return alpha * tl.maximum(1 - alpha * tl.abs(h - threshold), 0.0)
    else:
        g = tl.sigmoid(alpha * (h - threshold))
        return alpha * g * (1 - g)


@jit
def reset_derivative(  # type: ignore[no-untyped-def]
    h, derivative, threshold: tl.constexpr, v_reset: tl.constexpr, soft: tl.constexpr, above: tl.constexpr,
    detach_reset: tl.constexpr,
):  # fmt: skip
    """Return dv / dh, where `derivative` is ds / dh."""
    if soft:
        kept = tl.full(h.shape, 1.0, tl.float32)
        if not detach_reset:
            kept -= threshold * derivative
    else:
        kept = 1 - fire(h, threshold, above)
        if not detach_reset:
            kept += (v_reset - h) * derivative
    return kept


@jit
def propagate(  # type: ignore[no-untyped-def]  # noqa: PLR0913
    h, upstream, later, decay: tl.constexpr, threshold: tl.constexpr, v_reset: tl.constexpr, soft: tl.constexpr,
    above: tl.constexpr, alpha: tl.constexpr, detach_reset: tl.constexpr, triangle: tl.constexpr,
):  # fmt: skip
    """Return the gradient of x at a step, given that of the spikes, and that of x at the step after it: `later`."""
    derivative = surrogate(h, threshold, alpha, triangle)
    kept = reset_derivative(h, derivative, threshold, v_reset, soft, above, detach_reset)
    return derivative * upstream + decay * later * kept
