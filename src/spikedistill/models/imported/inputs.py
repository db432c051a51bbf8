"""Converts a batch as the student sees it to what a teacher from elsewhere takes, on the device.

Letters: T frame, B batch, C input channel, H, W, S side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Statistics = tuple[Sequence[float], Sequence[float]]
"""Mean and standard deviation per channel, of pixels in [0, 1]."""


@dataclass(frozen=True)
class Conversion:
    """What differs between the student's batch and the teacher's input.

    Attributes:
        given: statistics that the batch is normalised by; None for event frames.
        wanted: statistics that the teacher expects; None: the batch's own, or none.
        channels: number of channels that the teacher takes; None: those of the batch.
        size: S; None: that of the batch.
        grey_events: whether event frames become grey images.
    """

    given: Statistics | None = None
    wanted: Statistics | None = None
    channels: int | None = None
    size: int | None = None
    grey_events: bool = False

    @property
    def is_identity(self) -> bool:
        """True if nothing has to be done, so that a batch stays as it is, bit for bit."""
        same = self.wanted is None or _equal(self.given, self.wanted)
        return same and self.channels is None and self.size is None and not self.grey_events


def _equal(one: Statistics | None, other: Statistics) -> bool:
    return one is not None and all(tuple(a) == tuple(b) for a, b in zip(one, other, strict=True))


class InputAdapter(nn.Module):
    """Undoes the student's normalisation, repeats a grey channel, resizes, and normalises as the teacher's weights expect."""

    given_mean: Tensor
    given_std: Tensor
    wanted_mean: Tensor
    wanted_std: Tensor

    def __init__(self, conversion: Conversion) -> None:
        """Prepare a conversion; statistics follow the module to its device and are not part of its state."""
        super().__init__()
        self.conversion = conversion
        self._renormalise = conversion.wanted is not None and not _equal(conversion.given, conversion.wanted)
        for name, values in (("given", conversion.given), ("wanted", conversion.wanted)):
            mean, std = values if values is not None else ((0.0,), (1.0,))
            self.register_buffer(f"{name}_mean", torch.tensor(tuple(mean)).reshape(1, -1, 1, 1), persistent=False)
            self.register_buffer(f"{name}_std", torch.tensor(tuple(std)).reshape(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, C, H, W] or frames [T, B, C, H, W] to images [B, channels, S, S]."""
        if x.dim() == 5:
            x = _grey(x) if self.conversion.grey_events else x.mean(0)
        if self._renormalise:
            x = x * self.given_std + self.given_mean
        if self.conversion.channels is not None and x.shape[1] == 1:
            x = x.expand(-1, self.conversion.channels, -1, -1)
        size = self.conversion.size
        if size is not None and x.shape[-2:] != (size, size):
            x = nn.functional.interpolate(x, (size, size), mode="bilinear", align_corners=False, antialias=True)
        return (x - self.wanted_mean) / self.wanted_std if self._renormalise else x


def _grey(frames: Tensor) -> Tensor:
    """Return grey images [B, 1, H, W] in [0, 1]: the mean of counts over time and polarity, divided by its maximum."""
    mean = frames.mean(0).mean(1, keepdim=True)
    return mean / mean.amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(mean.dtype).tiny)
