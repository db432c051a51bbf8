"""Images as spikes over time, for the first layer of a network; "direct" feeds the image itself at every step instead.

    poisson   a spike at a step with the probability of the intensity, independently at each step
    latency   one spike, at step round((T - 1) * (1 - intensity)): the brighter, the earlier

Intensities are the pixels of [0, 1] before normalisation, which an encoder undoes; values that augmentation has moved outside
are clipped.

Poisson draws come from a counter-based generator, a function of the sample's key, the step and the pixel: on the device,
without state, and the same for any batch and any number of ranks. In training, `keys` holds the key of each sample; without
it, as in evaluation, the key is a hash of the image, so that a network gives the same answer for the same image.

Letters: T step, B batch, C channel, H, W.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spikedistill.neurons.settings import Encoding

LEVELS = 65535
"""Intensities are rounded to multiples of 1 / LEVELS. Those of 8-bit images, n / 255, are such multiples: rounding has no
effect."""
_STRIDE = 0x9E3779B97F4A7C15 - 2**64  # of the counter, as int64: 2**64 divided by the golden ratio


class Encoder(nn.Module):
    """Turns normalised images [B, C, H, W] into spikes [T, B, C, H, W].

    Attributes:
        keys: int64 [B], the keys of the samples of the next batch; used once. None: their hashes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, time_steps: int, mean: Sequence[float], std: Sequence[float]) -> None:
        """Create an encoder of T steps for images that were normalised with a mean and a standard deviation per channel."""
        super().__init__()
        self.time_steps = time_steps
        self.keys: Tensor | None = None
        for name, values in (("mean", mean), ("std", std)):
            buffer = torch.tensor(list(values), dtype=torch.float32).reshape(1, -1, 1, 1)
            self.register_buffer(name, buffer, persistent=False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes, in the dtype of `x`."""
        intensities = (x.float() * self.std.float() + self.mean.float()).clamp(0, 1)
        keys, self.keys = self.keys, None
        return self.spikes((intensities * LEVELS).round().long(), keys).to(x.dtype)

    def spikes(self, levels: Tensor, keys: Tensor | None) -> Tensor:
        """Return the spikes, bool [T, B, C, H, W].

        Args:
            levels: intensities [B, C, H, W] in units of 1 / LEVELS.
            keys: of the samples, int64 [B]; None: their hashes.
        """
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Return the text in the parentheses of `print(model)`."""
        return f"time_steps={self.time_steps}"


class Latency(Encoder):
    """One spike per pixel, at a time linear in its intensity; as SpikingJelly's `LatencyEncoder` with "linear"."""

    def spikes(self, levels: Tensor, keys: Tensor | None) -> Tensor:
        """Return the spikes, bool [T, B, C, H, W]."""
        when = (2 * (self.time_steps - 1) * (LEVELS - levels) + LEVELS) // (2 * LEVELS)
        return torch.stack([when == step for step in range(self.time_steps)])


class Poisson(Encoder):
    """A spike at each step with the probability of the intensity."""

    def spikes(self, levels: Tensor, keys: Tensor | None) -> Tensor:
        """Return the spikes, bool [T, B, C, H, W]."""
        flat = levels.flatten(1)
        pixels = torch.arange(flat.shape[1], device=flat.device)
        if keys is None:
            keys = _mixed(flat + (pixels + 1) * _STRIDE).sum(1)
        counters = pixels + flat.shape[1] * torch.arange(self.time_steps, device=flat.device)[:, None, None]
        words = _mixed(keys.to(flat.device)[:, None] + (counters + 1) * _STRIDE)
        draws = (_shifted(words, 32) * LEVELS) >> 32  # uniform in 0 .. LEVELS - 1
        return (draws < flat).unflatten(2, levels.shape[1:])


ENCODERS: dict[Encoding, type[Encoder]] = {"poisson": Poisson, "latency": Latency}


def _shifted(words: Tensor, bits: int) -> Tensor:
    """Shift int64 words to the right as unsigned ones."""
    return (words >> bits) & (2 ** (64 - bits) - 1)


def _mixed(words: Tensor) -> Tensor:
    """Return the output function of SplitMix64 (Steele et al. 2014, https://doi.org/10.1145/2660193.2660195) of int64 words."""
    words = (words ^ _shifted(words, 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    words = (words ^ _shifted(words, 27)) * (0x94D049BB133111EB - 2**64)
    return words ^ _shifted(words, 31)
