"""What the kernels of batch normalisation have in common: the layer, how a tensor is cut into tiles, the normalised values.

Tensors are [T, M, C] in memory (channels_last): T step, M sample and pixel, C channel. A program has a tile of M and C for all T.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from spikedistill.neurons.kernels.launch import jit, tl

_THREADS = 128
_ACCESS_BYTES = 16
"""Bytes that a thread reads or writes at once, the most that a GPU can."""
_BACKWARD_VALUES = 60
"""Maximum number of values of y per thread of a backward kernel, over all steps: more would not fit into its registers."""


class Norm(NamedTuple):
    """A batch normalisation: float32 vectors [C], and eps."""

    mean: Tensor
    var: Tensor
    weight: Tensor
    bias: Tensor
    eps: float


class Tiles(NamedTuple):
    """How M and C are cut into tiles."""

    rows: int
    channels: int
    tile_rows: int
    tile_channels: int

    @classmethod
    def of(cls, y: Tensor, *, backward: bool) -> Tiles:
        """Return the tiles of y [T, M, C]: rows of up to 64 neighbouring channels."""
        steps, rows, channels = y.shape
        values = _ACCESS_BYTES // y.element_size()
        while backward and values > 1 and values * steps > _BACKWARD_VALUES:
            values //= 2
        tile_channels = min(64, 1 << (channels - 1).bit_length())
        return cls(rows, channels, _THREADS * values // tile_channels, tile_channels)

    @property
    def grid(self) -> tuple[int, int]:
        """Number of tiles along M and C."""
        return -(-self.rows // self.tile_rows), -(-self.channels // self.tile_channels)

    def of_steps(self, steps: int) -> dict[str, Any]:
        """Return the arguments of kernels that run through T steps."""
        return {"steps": steps, **self._asdict()}


@jit
def tile(first_row, rows, channels, tile_rows: tl.constexpr, tile_channels: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the places of a tile in a step [tile_rows, tile_channels], and which of them are inside."""
    row = first_row + tl.arange(0, tile_rows)[:, None]
    channel = tl.program_id(1) * tile_channels + tl.arange(0, tile_channels)[None, :]
    return row.to(tl.int64) * channels + channel, (row < rows) & (channel < channels)


@jit
def channel_vector(pointer, channels, tile_channels: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the values of this program's channels [1, tile_channels]."""
    channel = tl.program_id(1) * tile_channels + tl.arange(0, tile_channels)[None, :]
    return tl.load(pointer + channel, mask=channel < channels, other=0.0).to(tl.float32)


@jit
def inverse_std(var_ptr, eps, channels, tile_channels: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return 1 / sqrt(var + eps) of this program's channels [1, tile_channels], correctly rounded."""
    std = tl.sqrt_rn(channel_vector(var_ptr, channels, tile_channels) + eps)
    return tl.div_rn(tl.full(std.shape, 1.0, tl.float32), std)


@jit
def current(y, mean, scale, bias, shortcut_ptr, place, inside):  # type: ignore[no-untyped-def]
    """Return x, by the same operations in every kernel, so that recomputed potentials are bit-identical."""
    x = tl.fma(y - mean, scale, bias)
    if shortcut_ptr is not None:
        x += tl.load(shortcut_ptr + place, mask=inside, other=0.0).to(tl.float32)
    return x
