"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) of a global batch, by torchvision's rules.

Every sample is mixed with the one before it in the global batch, the first with the last, with the same share in the whole batch.
The draws are functions of (seed, epoch, step). So the mixture does not depend on the number of ranks: each loads one more sample,
the one before its part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spikedistill.data.loading.rng import batch_words, below, uniform
from spikedistill.lazy import torch

_HAPPENS, _WHICH, _SHARE, _Y, _X = range(5)


@dataclass(frozen=True)
class Mixing:
    """How batches are mixed.

    Attributes:
        mixup: alpha of mixup's Beta distribution; 0: no mixup.
        cutmix: alpha of CutMix's; 0: no CutMix. Where both are set, each batch gets one of them, with equal probability.
        probability: of a batch to be mixed.
    """

    mixup: float
    cutmix: float
    probability: float


@dataclass(frozen=True)
class Mixture:
    """How one batch is mixed.

    Attributes:
        share: share of each sample itself; 1: not mixed.
        box: top, left, bottom, right of what CutMix replaces, in pixels; None: mixup.
    """

    share: float = 1.0
    box: tuple[int, int, int, int] | None = None


def draw_mixture(mixing: Mixing, seed: int, epoch: int, step: int, height: int, width: int) -> Mixture:
    """Return how the batch of a step is mixed.

    Args:
        mixing: how batches are mixed.
        seed: of the run.
        epoch: from 0.
        step: in the epoch, from 0.
        height: of an input in pixels.
        width: of an input in pixels.
    """
    words = batch_words(seed, epoch, step)
    if uniform(words[_HAPPENS]) >= mixing.probability:
        return Mixture()
    with_cutmix = mixing.cutmix > 0 and (not mixing.mixup or below(words[_WHICH], 2) == 1)
    share = _beta(mixing.cutmix if with_cutmix else mixing.mixup, float(uniform(words[_SHARE])))
    if not with_cutmix:
        return Mixture(share)
    half = 0.5 * math.sqrt(1 - share)
    y, x = int(below(words[_Y], height)), int(below(words[_X], width))
    top, bottom = max(y - int(half * height), 0), min(y + int(half * height), height)
    left, right = max(x - int(half * width), 0), min(x + int(half * width), width)
    return Mixture(1 - (right - left) * (bottom - top) / (width * height), (top, left, bottom, right))


def _beta(alpha: float, quantile: float) -> float:
    """Return a quantile of Beta(alpha, alpha)."""
    from scipy.special import betaincinv

    return float(betaincinv(alpha, alpha, quantile))


def with_predecessor(positions: npt.NDArray[np.int64], batch_size: int) -> npt.NDArray[np.int64]:
    """Return a rank's positions in an epoch, [B], with the one before the first in the global batch ahead of them, [B + 1]."""
    first = int(positions[0])
    before = first - 1 if first % batch_size else first + batch_size - 1
    return np.concatenate([[before], positions])


def mix(inputs: torch.Tensor, labels: torch.Tensor, mixture: Mixture, *, led: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix each sample with the one before it.

    Args:
        inputs: images [B, C, H, W] or frames [T, B, C, H, W].
        labels: [B].
        mixture: how.
        led: whether the first sample is only there to be mixed into the second; otherwise the last is mixed into the first.

    Returns:
        Inputs of B samples, or B - 1 if led; and labels [2, B], of the samples and of what is mixed into them.
    """
    dim = inputs.dim() - 4
    if led:
        count = len(labels) - 1
        own, others = inputs.narrow(dim, 1, count), inputs.narrow(dim, 0, count)
        pair = torch.stack([labels[1:], labels[:-1]])
    else:
        own, others = inputs, inputs.roll(1, dim)
        pair = torch.stack([labels, labels.roll(1)])
    if mixture.share == 1:
        return own, pair
    if mixture.box is None:
        return others.mul(1 - mixture.share).add_(own.mul(mixture.share)), pair
    top, left, bottom, right = mixture.box
    mixed = own.clone(memory_format=torch.contiguous_format)
    mixed[..., top:bottom, left:right] = others[..., top:bottom, left:right]
    return mixed, pair
