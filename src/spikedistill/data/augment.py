"""Random changes to a batch of training samples, on the device. Importing this file does not import torch.

The draws come from a counter-based generator: one row of raw words per position in the epoch, keyed by (seed, epoch), so
that a sample's changes depend on neither the number of ranks nor what was drawn before.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from spikedistill.lazy import torch

DRAWS = 8  # words per sample; Philox gives them in blocks of four
_CROP_Y, _CROP_X, _FLIP, _CUT_Y, _CUT_X, _ROLL_Y, _ROLL_X = range(7)
_AUGMENT_STREAM = 2


class Augment(BaseModel):
    """What may happen to a training sample; all frames of an event sample change alike."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop_padding: int = Field(0, ge=0, description="Pad by this many pixels of zeros, then crop back at a random place.")
    flip: bool = Field(False, description="Mirror left to right with probability 1/2.")
    cutout: int = Field(0, ge=0, description="Side in pixels of a square of zeros at a random centre; 0: none.")
    roll: int = Field(0, ge=0, description="Shift cyclically by up to this many pixels, both ways, on both axes.")

    @property
    def is_identity(self) -> bool:
        """Whether nothing ever changes."""
        return self == Augment()


def draw(seed: int, epoch: int, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Random words [len(positions), 8] of samples by their position in the epoch."""
    first, last = int(positions.min()), int(positions.max())
    generator = np.random.Philox(key=[seed, (epoch << 8) | _AUGMENT_STREAM], counter=first * (DRAWS // 4))
    words = generator.random_raw((last - first + 1) * DRAWS).reshape(-1, DRAWS)
    return words[positions - first]


def augment_batch(samples: torch.Tensor, augment: Augment, words: npt.NDArray[np.uint64]) -> torch.Tensor:
    """Change a batch.

    Args:
        samples: [B, ..., H, W], any dtype; everything between B and H changes alike.
        augment: what may happen.
        words: random words of the samples, [B, 8]; see `draw`.

    Returns:
        A tensor of the same shape and dtype.
    """
    if augment.is_identity:
        return samples
    height, width = samples.shape[-2:]
    device = samples.device

    def below(column: int, limit: int) -> torch.Tensor:
        return torch.from_numpy((words[:, column] % np.uint64(limit)).astype(np.int64)).to(device)

    y = torch.arange(height, device=device).expand(len(samples), height)
    x = torch.arange(width, device=device).expand(len(samples), width)
    if augment.flip:
        x = torch.where(below(_FLIP, 2)[:, None] == 1, width - 1 - x, x)
    if augment.crop_padding:
        pad = augment.crop_padding
        y = y + below(_CROP_Y, 2 * pad + 1)[:, None] - pad
        x = x + below(_CROP_X, 2 * pad + 1)[:, None] - pad
    if augment.roll:
        y = y - (below(_ROLL_Y, 2 * augment.roll + 1)[:, None] - augment.roll)
        x = x - (below(_ROLL_X, 2 * augment.roll + 1)[:, None] - augment.roll)
    inside = None
    if augment.crop_padding:
        inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    if augment.cutout:
        kept = ~_square(below(_CUT_Y, height), below(_CUT_X, width), augment.cutout, height, width)
        inside = kept if inside is None else inside & kept
    changed = _gather(samples, y % height, x % width)
    if inside is None:
        return changed
    mask = inside.reshape(len(samples), *[1] * (samples.dim() - 3), height, width)
    return changed * mask.to(changed.dtype)


def _square(cy: torch.Tensor, cx: torch.Tensor, side: int, height: int, width: int) -> torch.Tensor:
    def band(centre: torch.Tensor, size: int) -> torch.Tensor:
        at = torch.arange(size, device=centre.device)
        start = centre[:, None] - side // 2
        return (at >= start) & (at < start + side)

    return band(cy, height)[:, :, None] & band(cx, width)[:, None, :]


def _gather(samples: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """samples[b, ..., y[b, i], x[b, j]] as [B, ..., H, W]."""
    height, width = samples.shape[-2:]
    flat = samples.reshape(len(samples), -1, height * width)
    index = (y[:, :, None] * width + x[:, None, :]).reshape(len(samples), 1, -1)
    return flat.gather(2, index.expand(-1, flat.shape[1], -1)).reshape(samples.shape)
