"""The backward pass of `normalised_lif`: potentials are recomputed instead of kept.

It takes two kernels, because the gradient of y depends on two sums over the batch: `_sum` reduces g and g * normal(y), where g
is the gradient of x, and `_differentiate` recomputes g and writes the gradient of y. With a shortcut, whose gradient is g,
`_sum` writes g and `_finish` reads it instead. Letters as in `kernels.tiles`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spikedistill.neurons.dynamics import Dynamics
from spikedistill.neurons.kernels.equations import charge, fire, propagate, reset
from spikedistill.neurons.kernels.launch import OPTIONS, device_of, differentiation, jit, tl
from spikedistill.neurons.kernels.tiles import Norm, Tiles, channel_vector, current, inverse_std, tile

MAX_STEPS = 20
"""Largest T: in backward, the potentials of all steps are in registers at once, and each further step makes compilation
slower."""
_SUM_PROGRAMS = 1024
"""Programs of `_sum`: enough for every GPU, and the same number on all, so that sums are rounded alike."""


def sum_gradients(
    upstream: Tensor, y: Tensor, shortcut: Tensor | None, norm: Norm, dynamics: Dynamics
) -> tuple[Tensor, Tensor | None]:
    """Return the sums [2, C] of g and of g * normal(y) over T and M, and, with a shortcut, g [T, M, C] in its dtype.

    Args:
        upstream: gradient with respect to the spikes [T, M, C].
        y: [T, M, C].
        shortcut: [T, M, C], or None.
        norm: the normalisation.
        dynamics: of the neurons.
    """
    tiles = Tiles.of(y, backward=True)
    down, across = tiles.grid
    grid = min(down, max(1, _SUM_PROGRAMS // across)), across
    grad_x = None if shortcut is None else torch.empty_like(shortcut)
    sums = torch.empty(grid[0], 2, tiles.channels, dtype=torch.float32, device=y.device)
    with device_of(y):
        _sum[grid](upstream, y, shortcut, grad_x, sums, *norm, **tiles.of_steps(len(y)), **differentiation(dynamics), **OPTIONS)
    return sums.sum(0), grad_x


def differentiate(upstream: Tensor, y: Tensor, grad_x: Tensor | None, means: Tensor, norm: Norm, dynamics: Dynamics) -> Tensor:
    """Return the gradient with respect to y [T, M, C], in its dtype.

    Args:
        upstream: gradient with respect to the spikes [T, M, C].
        y: [T, M, C].
        grad_x: g, as `sum_gradients` returned it.
        means: what `sum_gradients` returned, divided by the size of the batch [2, C]; zeros if the statistics are constants.
        norm: the normalisation.
        dynamics: of the neurons.
    """
    grad_y = torch.empty_like(y)
    if grad_x is not None:
        _run_finish(grad_x.flatten(0, 1), y.flatten(0, 1), grad_y.flatten(0, 1), means, norm)
        return grad_y
    tiles = Tiles.of(y, backward=True)
    with device_of(y):
        _differentiate[tiles.grid](
            upstream, y, grad_y, means, *norm, **tiles.of_steps(len(y)), **differentiation(dynamics), **OPTIONS
        )
    return grad_y


def _run_finish(grad_x: Tensor, y: Tensor, grad_y: Tensor, means: Tensor, norm: Norm) -> None:
    """Write the gradient of y; tensors are [T * M, C], since steps do not depend on each other."""
    tiles = Tiles.of(y[None], backward=False)
    with device_of(y):
        _finish[tiles.grid](grad_x, y, grad_y, means, *norm, **tiles._asdict(), **OPTIONS)


@jit
def _potentials(  # type: ignore[no-untyped-def]  # noqa: PLR0913
    y_ptr, shortcut_ptr, place, inside, step_size, mean, scale, bias,
    steps: tl.constexpr,
    decay: tl.constexpr,
    threshold: tl.constexpr,
    v_reset: tl.constexpr,
    soft: tl.constexpr,
    above: tl.constexpr,
):  # fmt: skip
    """Return y - mean and h of all steps, last step first."""
    deviations = ()
    potentials = ()
    v = tl.zeros(place.shape, tl.float32)
    for _ in tl.static_range(steps):
        y = tl.load(y_ptr + place, mask=inside, other=0.0).to(tl.float32)
        h = charge(current(y, mean, scale, bias, shortcut_ptr, place, inside), v, decay)
        v = reset(h, fire(h, threshold, above), threshold, v_reset, soft)
        deviations = (y - mean,) + deviations  # type: ignore[assignment]  # noqa: RUF005
        potentials = (h,) + potentials  # type: ignore[assignment]  # noqa: RUF005
        place += step_size
    return deviations, potentials


@jit
def _sum(  # type: ignore[no-untyped-def]  # noqa: PLR0913
    upstream_ptr,
    y_ptr,
    shortcut_ptr,
    grad_x_ptr,
    sums_ptr,
    mean_ptr,
    var_ptr,
    weight_ptr,
    bias_ptr,
    eps,
    rows,
    channels,
    steps: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
    decay: tl.constexpr,
    threshold: tl.constexpr,
    v_reset: tl.constexpr,
    soft: tl.constexpr,
    above: tl.constexpr,
    alpha: tl.constexpr,
    detach_reset: tl.constexpr,
    triangle: tl.constexpr,
):
    mean = channel_vector(mean_ptr, channels, tile_channels)
    inverse = inverse_std(var_ptr, eps, channels, tile_channels)
    scale = inverse * channel_vector(weight_ptr, channels, tile_channels)
    bias = channel_vector(bias_ptr, channels, tile_channels)
    step_size = tl.cast(rows, tl.int64) * channels
    total = tl.zeros([tile_rows, tile_channels], tl.float32)
    slope = tl.zeros([tile_rows, tile_channels], tl.float32)
    first_row = tl.program_id(0) * tile_rows
    while first_row < rows:
        place, inside = tile(first_row, rows, channels, tile_rows, tile_channels)
        deviations, potentials = _potentials(
            y_ptr, shortcut_ptr, place, inside, step_size, mean, scale, bias,
            steps, decay, threshold, v_reset, soft, above,
        )  # fmt: skip
        place += step_size * (steps - 1)
        g = tl.zeros([tile_rows, tile_channels], tl.float32)
        for i in tl.static_range(steps):
            upstream = tl.load(upstream_ptr + place, mask=inside, other=0.0).to(tl.float32)
            g = propagate(potentials[i], upstream, g, decay, threshold, v_reset, soft, above, alpha, detach_reset, triangle)
            if grad_x_ptr is not None:
                tl.store(grad_x_ptr + place, g.to(grad_x_ptr.dtype.element_ty), mask=inside)
            total += g
            slope += g * deviations[i]
            place -= step_size
        first_row += tl.num_programs(0) * tile_rows
    channel = tl.program_id(1) * tile_channels + tl.arange(0, tile_channels)
    sums_ptr += tl.program_id(0) * 2 * channels + channel
    tl.store(sums_ptr, tl.sum(total, 0), mask=channel < channels)
    tl.store(sums_ptr + channels, tl.sum(slope * inverse, 0), mask=channel < channels)


@jit
def _differentiate(  # type: ignore[no-untyped-def]  # noqa: PLR0913
    upstream_ptr,
    y_ptr,
    grad_y_ptr,
    means_ptr,
    mean_ptr,
    var_ptr,
    weight_ptr,
    bias_ptr,
    eps,
    rows,
    channels,
    steps: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
    decay: tl.constexpr,
    threshold: tl.constexpr,
    v_reset: tl.constexpr,
    soft: tl.constexpr,
    above: tl.constexpr,
    alpha: tl.constexpr,
    detach_reset: tl.constexpr,
    triangle: tl.constexpr,
):
    mean = channel_vector(mean_ptr, channels, tile_channels)
    inverse = inverse_std(var_ptr, eps, channels, tile_channels)
    scale = inverse * channel_vector(weight_ptr, channels, tile_channels)
    bias = channel_vector(bias_ptr, channels, tile_channels)
    centre = channel_vector(means_ptr, channels, tile_channels)
    slope = inverse * channel_vector(means_ptr + channels, channels, tile_channels)
    step_size = tl.cast(rows, tl.int64) * channels
    place, inside = tile(tl.program_id(0) * tile_rows, rows, channels, tile_rows, tile_channels)
    deviations, potentials = _potentials(
        y_ptr, None, place, inside, step_size, mean, scale, bias, steps, decay, threshold, v_reset, soft, above
    )
    place += step_size * (steps - 1)
    g = tl.zeros([tile_rows, tile_channels], tl.float32)
    for i in tl.static_range(steps):
        upstream = tl.load(upstream_ptr + place, mask=inside, other=0.0).to(tl.float32)
        g = propagate(potentials[i], upstream, g, decay, threshold, v_reset, soft, above, alpha, detach_reset, triangle)
        grad_y = scale * (g - centre - deviations[i] * slope)
        tl.store(grad_y_ptr + place, grad_y.to(grad_y_ptr.dtype.element_ty), mask=inside)
        place -= step_size


@jit
def _finish(  # type: ignore[no-untyped-def]  # noqa: PLR0913
    grad_x_ptr,
    y_ptr,
    grad_y_ptr,
    means_ptr,
    mean_ptr,
    var_ptr,
    weight_ptr,
    bias_ptr,
    eps,
    rows,
    channels,
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
):
    mean = channel_vector(mean_ptr, channels, tile_channels)
    inverse = inverse_std(var_ptr, eps, channels, tile_channels)
    scale = inverse * channel_vector(weight_ptr, channels, tile_channels)
    centre = channel_vector(means_ptr, channels, tile_channels)
    slope = inverse * channel_vector(means_ptr + channels, channels, tile_channels)
    place, inside = tile(tl.program_id(0) * tile_rows, rows, channels, tile_rows, tile_channels)
    g = tl.load(grad_x_ptr + place, mask=inside, other=0.0).to(tl.float32)
    y = tl.load(y_ptr + place, mask=inside, other=0.0).to(tl.float32)
    grad_y = scale * (g - centre - (y - mean) * slope)
    tl.store(grad_y_ptr + place, grad_y.to(grad_y_ptr.dtype.element_ty), mask=inside)
