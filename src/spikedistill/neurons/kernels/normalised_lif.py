"""Batch normalisation and the LIF neurons after it as one kernel; for the backward pass see `normalised_lif_backward`.

    x = (y - mean) / sqrt(var + eps) * weight + bias + shortcut        y is the output of a convolution; shortcut is optional
    spikes = LIF(x)                                                    as in `neurons.dynamics`

The kernel reads y and writes spikes, and nothing else is kept. Letters as in `kernels.tiles`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spikedistill.neurons.dynamics import Dynamics
from spikedistill.neurons.kernels.equations import charge, fire, reset
from spikedistill.neurons.kernels.launch import OPTIONS, device_of, integration, jit, tl
from spikedistill.neurons.kernels.tiles import Norm, Tiles, channel_vector, current, inverse_std, tile


def integrate(y: Tensor, shortcut: Tensor | None, norm: Norm, dynamics: Dynamics) -> Tensor:
    """Return the spikes [T, M, C], in the dtype of y [T, M, C]; the shortcut, if there is one, has its shape."""
    spikes = torch.empty_like(y)
    tiles = Tiles.of(y, backward=False)
    with device_of(y):
        _integrate[tiles.grid](y, shortcut, spikes, *norm, **tiles.of_steps(len(y)), **integration(dynamics), **OPTIONS)
    return spikes


@jit
def _integrate(  # type: ignore[no-untyped-def]  # noqa: PLR0913
    y_ptr,
    shortcut_ptr,
    spikes_ptr,
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
):
    mean = channel_vector(mean_ptr, channels, tile_channels)
    scale = inverse_std(var_ptr, eps, channels, tile_channels) * channel_vector(weight_ptr, channels, tile_channels)
    bias = channel_vector(bias_ptr, channels, tile_channels)
    place, inside = tile(tl.program_id(0) * tile_rows, rows, channels, tile_rows, tile_channels)
    step_size = tl.cast(rows, tl.int64) * channels
    v = tl.zeros([tile_rows, tile_channels], tl.float32)
    for _ in tl.static_range(steps):
        y = tl.load(y_ptr + place, mask=inside, other=0.0).to(tl.float32)
        h = charge(current(y, mean, scale, bias, shortcut_ptr, place, inside), v, decay)
        s = fire(h, threshold, above)
        tl.store(spikes_ptr + place, s.to(spikes_ptr.dtype.element_ty), mask=inside)
        v = reset(h, s, threshold, v_reset, soft)
        place += step_size
