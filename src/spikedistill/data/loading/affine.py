"""Rotations, shears and translations of batches, on the device: as torchvision's on tensors, and as Pillow's.

Letters: B batch, C channel, H, W.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from spikedistill.data.loading.resample import send
from spikedistill.lazy import torch

Floats = npt.NDArray[np.float64]
_FIXED = 1 << 16  # Pillow's coordinates are multiples of 1 / _FIXED


def rotate(samples: torch.Tensor, degrees: Floats, rows: npt.NDArray[np.int64]) -> torch.Tensor:
    """Rotate some samples counter-clockwise around their centre; nearest pixel, zeros from outside.

    Args:
        samples: [B, ..., H, W], any dtype.
        degrees: angle of each sample, [B].
        rows: numbers of the samples to rotate.

    Returns:
        A tensor of the same shape and dtype, equal to torchvision's `rotate` of each sample.
    """
    if not len(rows):
        return samples
    index = send(rows, samples.device)
    height, width = samples.shape[-2:]
    part = samples.index_select(0, index)
    turned = transform(part.reshape(len(rows), -1, height, width), rotation(np.radians(degrees[rows])), fill=0.0)
    return samples.index_copy(0, index, turned.reshape(part.shape))


def rotation(radians: Floats) -> Floats:
    """Return the maps [B, 2, 3] of counter-clockwise rotations, from output to source coordinates around the centre."""
    cos, sin, zero = np.cos(-radians), np.sin(-radians), np.zeros_like(radians)
    return np.stack([cos, sin, zero, -sin, cos, zero], 1).reshape(-1, 2, 3)


def transform(images: torch.Tensor, matrices: Floats, *, fill: float) -> torch.Tensor:
    """Apply affine maps, in coordinates around the centre, to [B, C, H, W]; nearest pixel."""
    height, width = images.shape[-2:]
    halves = np.array([[0.5 * width], [0.5 * height]], np.float32)
    theta = send((matrices.astype(np.float32) / halves).transpose(0, 2, 1), images.device)
    base = send(_coordinates(height, width), images.device)
    grid = base.expand(len(images), -1, -1).bmm(theta).reshape(len(images), height, width, 2)
    inside = torch.ones(len(images), 1, height, width, device=images.device)
    source = torch.cat([images.to(torch.float32), inside], 1)
    found = torch.nn.functional.grid_sample(source, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return torch.where(found[:, -1:] < 0.5, fill, found[:, :-1]).to(images.dtype)


@functools.cache
def _coordinates(height: int, width: int) -> npt.NDArray[np.float32]:
    """Return x and y of every pixel, from the centre, and 1, [1, H * W, 3]."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([x - (width - 1) / 2, y - (height - 1) / 2, np.ones_like(x)], -1).astype(np.float32).reshape(1, -1, 3)


def transform_as_pillow(images: torch.Tensor, maps: Floats, *, fill: float) -> torch.Tensor:
    """Apply affine maps to [B, C, H, W]; nearest pixel, in Pillow's fixed-point arithmetic.

    Args:
        images: uint8.
        maps: [B, 2, 3], from output to source coordinates, whose origin is the corner of the image.
        fill: value of pixels from outside the image.
    """
    height, width = images.shape[-2:]
    fixed = np.floor(maps * _FIXED + 0.5).astype(np.int64)
    fixed[:, :, 2] = np.floor((maps[:, :, 2] + (maps[:, :, 0] + maps[:, :, 1]) / 2) * _FIXED + 0.5)
    per_x, per_y, first = (send(fixed[:, :, k], images.device)[..., None, None] for k in range(3))
    steps_x, steps_y = (torch.arange(length, device=images.device) for length in (width, height))
    source = (first + per_x * steps_x + per_y * steps_y[:, None]) >> 16  # [B, 2, H, W]
    x, y = source.unbind(1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    index = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).reshape(len(images), 1, -1)
    flat = images.flatten(2)
    found = flat.gather(2, index.expand(-1, flat.shape[1], -1)).reshape(images.shape)
    return torch.where(inside[:, None], found, fill).to(images.dtype)


def shear_as_pillow(images: torch.Tensor, amounts: Floats, *, fill: float) -> torch.Tensor:
    """Shear [B, C, H, W] along x around the corner, by Pillow's bicubic interpolation: cubic convolution, a = -1, truncated.

    Args:
        images: uint8.
        amounts: pixels along x per pixel along y, [B].
        fill: value of pixels from outside the image.
    """
    height, width = images.shape[-2:]
    rows, columns = (torch.arange(length, device=images.device, dtype=torch.float64) + 0.5 for length in (height, width))
    source = columns + send(amounts, images.device)[:, None, None] * rows[:, None]  # [B, H, W]
    inside = (source >= 0) & (source < width)
    left = (source - 0.5).floor()
    d = (source - 0.5 - left)[:, None]
    v1, v2, v3, v4 = (_column(images, left.long() + k).double() for k in (-1, 0, 1, 2))
    value = v2 + d * (v3 - v1 + d * (2 * (v1 - v2) + v3 - v4 + d * (v2 - v1 - v3 + v4)))
    return torch.where(inside[:, None], value.clamp_(0, 255), fill).to(images.dtype)


def _column(images: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return the pixels at columns x [B, H, W] of each row; outside, the nearest one."""
    return images.gather(3, x.clamp(0, images.shape[-1] - 1)[:, None].expand(images.shape))
