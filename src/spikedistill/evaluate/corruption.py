"""Corruption of stored samples, before they become inputs: noise on images, lost and spurious events.

A corrupted sample is a function of the sample, its position in the split, the kind and the strength alone. So every network
sees the same ones, on any number of ranks and on any device. All strengths of a kind draw the same random numbers: events that
are lost at one strength are lost at every larger one.

The idea of measuring robustness by kinds and strengths of corruption is that of Hendrycks and Dietterich 2019, arXiv 1903.12261.

Letters: B batch, T frame, C channel or polarity, H, W, N event.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from spikedistill.data.loading.prefetch import prefetched
from spikedistill.data.loading.rng import Words, below, derived_seed, uniform
from spikedistill.data.store import SampleStore

Sample = npt.NDArray[Any]
Draw = Callable[[int], Words]
_SMALLEST = 2.0**-54  # half of the step between the numbers that `uniform` returns; 0 has no quantile


def corrupted_batches(
    data: SampleStore, split: str, starts: range, batch_size: int, *, kind: str, strength: float
) -> Iterator[tuple[int, SampleStore]]:
    """Yield batches of a split, corrupted ahead of time by a background thread.

    Args:
        data: the prepared dataset.
        split: name of the split.
        starts: position in the split of the first sample of each batch.
        batch_size: number of samples of all batches but the last.
        kind: one of `KINDS`.
        strength: see `CorruptionConfig`.

    Yields:
        The position of the first sample, and the batch as a dataset whose only split has all of it.
    """

    def make(step: int) -> tuple[int, SampleStore]:
        start = starts[step]
        rows = data.split(split)[start : start + batch_size]
        samples = corrupt(data.take(rows), kind, strength, start)
        whole = {split: np.arange(len(rows))}
        return start, dataclasses.replace(data, samples=samples, labels=data.labels[rows], splits=whole)

    return prefetched(make, range(len(starts)))


def corrupt(samples: Sample, kind: str, strength: float, start: int) -> Sample:
    """Corrupt samples that follow each other in a split.

    Args:
        samples: as stored, images uint8 [B, C, H, W] or counts of events [B, T, 2, H, W]; they stay as they are.
        kind: one of `KINDS`.
        strength: see `CorruptionConfig`.
        start: position of the first one in the split.

    Returns:
        Corrupted samples of the same shape. Counts have two bytes after events were added.
    """
    return np.stack([KINDS[kind](sample, strength, _draw(kind, start + offset)) for offset, sample in enumerate(samples)])


def _draw(kind: str, position: int) -> Draw:
    """Return the source of the random words of one sample of a split."""
    return np.random.Philox(key=derived_seed(f"corruption by {kind}", 0, 0, position)).random_raw


def _noise(image: Sample, strength: float, draw: Draw) -> Sample:
    """Add Gaussian noise to an image [C, H, W]; its standard deviation is the strength, where 1 is the range of pixel values."""
    normal = ndtri(uniform(draw(image.size)).clip(min=_SMALLEST)).reshape(image.shape)
    return _to_pixels(image + 255 * strength * normal)


def _occlude(image: Sample, strength: float, draw: Draw) -> Sample:
    """Set a square at a random place in an image [C, H, W] to 0; its side is the strength times the shorter side, rounded."""
    height, width = image.shape[-2:]
    side = round(strength * min(height, width))
    top, left = (int(below(word, length - side + 1)) for word, length in zip(draw(2), (height, width), strict=True))
    occluded = image.copy()
    occluded[:, top : top + side, left : left + side] = 0
    return occluded


def _contrast(image: Sample, strength: float, draw: Draw) -> Sample:
    """Bring the pixels of an image [C, H, W] closer to the mean of their channel, by the strength as a share of the distance."""
    mean = image.mean((1, 2), keepdims=True)
    return _to_pixels(mean + (1 - strength) * (image - mean))


def _to_pixels(values: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _drop_events(counts: Sample, strength: float, draw: Draw) -> Sample:
    """Drop each event of counts [T, 2, H, W] with a probability, the strength: binomial thinning."""
    place = np.repeat(np.arange(counts.size), counts.ravel())  # of each event, [N]
    kept = uniform(draw(len(place))) >= strength
    return np.bincount(place[kept], minlength=counts.size).reshape(counts.shape).astype(counts.dtype)


def _noise_events(counts: Sample, strength: float, draw: Draw) -> Sample:
    """Add background activity to counts [T, 2, H, W]: a Poisson number of events to each, whose mean is the strength."""
    limit = math.ceil(strength + 10 * math.sqrt(strength) + 20)  # larger numbers have a probability below that of one word
    probability = np.cumprod([math.exp(-strength), *(strength / k for k in range(1, limit))])
    added = np.searchsorted(probability.cumsum(), uniform(draw(counts.size)), side="right").reshape(counts.shape)
    return (counts + added).clip(max=np.iinfo(np.uint16).max).astype(np.uint16)


KINDS: dict[str, Callable[[Sample, float, Draw], Sample]] = {
    "noise": _noise,
    "occlude": _occlude,
    "contrast": _contrast,
    "drop_events": _drop_events,
    "noise_events": _noise_events,
}
