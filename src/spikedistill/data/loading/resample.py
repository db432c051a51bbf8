"""Bilinear resampling of batches on the device, with or without antialiasing.

Letters: B batch, C channel, H, W, S output side.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spikedistill.lazy import torch

_UNIT = float(1 << 22)


def send(array: npt.NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """Copy a small array to the device, without waiting for the device."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def resize(samples: torch.Tensor, size: int, *, antialias: bool) -> torch.Tensor:
    """Resize [B, ..., H, W] of floats to [B, ..., S, S] as torchvision's `resize` does with tensors."""
    height, width = samples.shape[-2:]
    flat = samples.reshape(len(samples), -1, height, width)
    resized = torch.nn.functional.interpolate(flat, (size, size), mode="bilinear", align_corners=False, antialias=antialias)
    return resized.reshape(*samples.shape[:-2], size, size)


def resized_crop(samples: torch.Tensor, boxes: npt.NDArray[np.int64], size: int) -> torch.Tensor:
    """Crop one box from each sample and resize it, antialiased, to the same values as Pillow.

    As in Pillow, weights are multiples of 2^-22, and rows are resampled and rounded, half upwards, before columns. (Pillow 13
    resamples columns first for tall boxes; then values differ by at most 1.)

    Args:
        samples: uint8 [B, C, H, W].
        boxes: top, left, height, width of each box in pixels, [B, 4], inside the sample.
        size: S in pixels.

    Returns:
        uint8 [B, C, S, S].
    """
    height, width = samples.shape[-2:]
    top, left, box_height, box_width = (send(column, samples.device)[:, None, None] for column in boxes.T)
    across = _weights(left, box_width, width, size)
    down = _weights(top, box_height, height, size)
    rows = _to_grey(samples.double() @ across.transpose(1, 2)[:, None])
    return _to_grey(down[:, None] @ rows).to(torch.uint8)


def _to_grey(values: torch.Tensor) -> torch.Tensor:
    return (values / _UNIT + 0.5).floor_().clamp_(0, 255)


def _weights(start: torch.Tensor, length: torch.Tensor, source: int, size: int) -> torch.Tensor:
    """Return the weights [B, S, source] of the pixels of an axis, in units of 2^-22: a triangle over all pixels of the box."""
    scale = length.double() / size
    centre = (torch.arange(size, device=start.device)[:, None] + 0.5) * scale
    pixel = torch.arange(source, device=start.device) - start
    weights = (1 - (pixel - centre + 0.5).abs() / scale.clamp(min=1)).clamp_(min=0)
    weights = weights * ((pixel >= 0) & (pixel < length))
    return (weights / weights.sum(-1, keepdim=True) * _UNIT + 0.5).floor_()
