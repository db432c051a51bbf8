"""Augmentation of a batch of training samples, on the device. Imports no torch.

Order: crop, flip, roll, rotate, AutoAugment, Cutout; erasing comes after normalisation. All frames of an event sample change
alike. The changes to a sample depend on (seed, epoch, its position in the epoch) alone; see `loading.rng`.

Letters: B batch, C channel, H, W.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from spikedistill.components import Section
from spikedistill.data.loading.affine import rotate
from spikedistill.data.loading.auto_augment import Style, auto_augment
from spikedistill.data.loading.inputs import InputConfig
from spikedistill.data.loading.policies import Policy, Variant
from spikedistill.data.loading.resample import send
from spikedistill.data.loading.rng import SampleRng, Stream, Words, below, uniform
from spikedistill.data.meta import DatasetMeta
from spikedistill.lazy import torch

BOX_WORDS = 24
_ATTEMPTS = 10  # at a box that fits, as in torchvision: words 0 to 9 are areas, 10 to 19 ratios
_BOX_Y, _BOX_X, _HAPPENS = 20, 21, 22
_CROP_Y, _CROP_X, _FLIP, _CUT_Y, _CUT_X, _ROLL_Y, _ROLL_X = range(7)


class _Boxes(Section):
    scale: tuple[float, float] = Field(description="Minimum and maximum share of the area.")
    ratio: tuple[float, float] = Field(description="Minimum and maximum ratio of width to height.")

    @field_validator("scale", "ratio")
    @classmethod
    def _check_range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1]:
            raise ValueError("expected two positive numbers, the minimum first")
        return value

    @field_validator("scale")
    @classmethod
    def _check_share(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[1] > 1:
            raise ValueError("a share of the area is at most 1")
        return value


class ResizedCrop(_Boxes):
    """A box of random size, place and shape, resized to the size of an input (Inception-style)."""

    scale: tuple[float, float] = Field((0.08, 1.0), description="Minimum and maximum share of the image's area.")
    ratio: tuple[float, float] = Field((3 / 4, 4 / 3), description="Minimum and maximum ratio of width to height.")


class Erasing(_Boxes):
    """Random erasing (Zhong et al. 2020): a box is set to the mean."""

    probability: float = Field(0.5, ge=0, le=1, description="Probability that a sample is changed.")
    scale: tuple[float, float] = Field((0.02, 0.33), description="Minimum and maximum share of the image's area.")
    ratio: tuple[float, float] = Field((0.3, 3.3), description="Minimum and maximum ratio of width to height.")


class Augment(Section):
    """Random changes to training samples; all frames of an event sample change alike."""

    crop_padding: int = Field(0, ge=0, description="Pad by this many pixels of zeros, then crop back at a random position.")
    random_resized_crop: ResizedCrop | None = Field(
        None, description="Images: crop a random box and resize it to the size of an input; {} takes the default ranges."
    )
    flip: bool = Field(False, description="Mirror left to right with probability 1/2.")
    roll: int = Field(0, ge=0, description="Shift cyclically by up to this many pixels in both directions on both axes.")
    rotate: float = Field(0, ge=0, le=180, description="Rotate by up to this many degrees in both directions; nearest pixel.")
    auto_augment: Policy | None = Field(None, description="RGB images: AutoAugment (Cubuk et al. 2019) with one of its policies.")
    auto_augment_variant: Variant = Field(
        "torchvision",
        description="How AutoAugment is done: as torchvision does, or as the code of SeAl-KD, TDD and ESD does, which rotates to "
        "one side only, shears by bicubic interpolation, and has another probability in one place.",
    )
    auto_augment_fill: int = Field(
        128, ge=0, le=255, description="Value of pixels that AutoAugment takes from outside of an image: 128 is grey, 0 black."
    )
    cutout: int = Field(0, ge=0, description="Side in pixels of a square of zeros at a random centre; 0: none.")
    one_of: bool = Field(
        False, description="Apply one of roll, rotate and cutout per sample, chosen uniformly, instead of all that are set."
    )
    erase: Erasing | None = Field(None, description="Images: random erasing after normalisation; {} takes the default ranges.")

    @model_validator(mode="after")
    def _check_combination(self) -> Augment:
        if self.one_of and len(self.choices) < 2:
            raise ValueError("one_of needs at least two of roll, rotate and cutout")
        if self.crop_padding and self.random_resized_crop:
            raise ValueError("crop_padding and random_resized_crop cannot be combined")
        if self.auto_augment is None and self.style != Style():
            raise ValueError(
                "auto_augment_variant and auto_augment_fill have no effect without auto_augment; set it, or delete them"
            )
        return self

    @property
    def is_identity(self) -> bool:
        """True if no sample is ever changed."""
        return self == Augment()

    @property
    def style(self) -> Style:
        """How AutoAugment is done."""
        return Style(self.auto_augment_variant, self.auto_augment_fill)

    @property
    def choices(self) -> list[str]:
        """Those of roll, rotate and cutout that are set."""
        return [name for name in ("roll", "rotate", "cutout") if getattr(self, name)]

    def problems(self, meta: DatasetMeta, inputs: InputConfig) -> Iterator[tuple[str, str]]:
        """Yield the keys that do not fit the dataset or the size of an input, each with the reason."""
        height, width = inputs.size(meta.height, meta.width)
        if meta.kind == "frames":
            for key in ("random_resized_crop", "auto_augment", "erase"):
                if getattr(self, key) is not None:
                    yield key, "is for images; event frames are counts. For them: crop_padding, flip, roll, rotate, cutout"
        elif self.auto_augment and meta.channels != 3:
            yield "auto_augment", f"is for RGB images; these have {meta.channels} channel{'s' if meta.channels > 1 else ''}"
        if self.random_resized_crop and height != width:
            yield "random_resized_crop", f"gives squares, and inputs are {height}x{width}; set dataset.inputs.resize"
        for key in ("crop_padding", "roll", "cutout"):
            if getattr(self, key) > min(height, width):
                yield key, f"{getattr(self, key)} pixels are more than an input of {height}x{width} has"


def augment_batch(samples: torch.Tensor, augment: Augment, rng: SampleRng) -> torch.Tensor:
    """Apply all changes to a batch except resized crops and erasing.

    Args:
        samples: [B, ..., H, W], any dtype (AutoAugment: uint8 [B, 3, H, W]); everything between B and H changes alike.
        augment: the changes.
        rng: the random words of the samples.

    Returns:
        A tensor of the same shape and dtype.
    """
    if augment.is_identity:
        return samples
    words, event = rng.words(Stream.GEOMETRY, 8), rng.words(Stream.EVENTS, 4)
    chosen = dict.fromkeys(("roll", "rotate", "cutout"), np.ones(len(rng), dtype=bool))
    if augment.one_of:
        choice = below(event[:, 0], len(augment.choices))
        chosen = {name: choice == number for number, name in enumerate(augment.choices)}
    if augment.crop_padding or augment.flip or augment.roll:
        samples = _move(samples, augment, words, chosen["roll"] if augment.roll else None)
    if augment.rotate:
        degrees = uniform(event[:, 1], -augment.rotate, augment.rotate)
        samples = rotate(samples, degrees, np.flatnonzero(chosen["rotate"]))
    if augment.auto_augment:
        samples = auto_augment(samples, augment.auto_augment, rng, augment.style)
    if augment.cutout:
        samples = _cutout(samples, augment.cutout, words, chosen["cutout"])
    return samples


def _move(samples: torch.Tensor, augment: Augment, words: Words, rolled: npt.NDArray[np.bool_] | None) -> torch.Tensor:
    """Crop, flip and roll by a single gather."""
    if rolled is None and not augment.crop_padding:
        return _mirror(samples, below(words[:, _FLIP], 2) == 1)
    height, width = samples.shape[-2:]
    y = np.broadcast_to(np.arange(height), (len(samples), height))
    x = np.broadcast_to(np.arange(width), (len(samples), width))
    if rolled is not None:
        reach, by = 2 * augment.roll + 1, rolled[:, None]
        y = (y - (below(words[:, _ROLL_Y], reach)[:, None] - augment.roll) * by) % height
        x = (x - (below(words[:, _ROLL_X], reach)[:, None] - augment.roll) * by) % width
    if augment.flip:
        x = np.where(below(words[:, _FLIP], 2)[:, None] == 1, width - 1 - x, x)
    pad = augment.crop_padding
    if pad:
        y = y + below(words[:, _CROP_Y], 2 * pad + 1)[:, None]
        x = x + below(words[:, _CROP_X], 2 * pad + 1)[:, None]
        samples = torch.nn.functional.pad(samples, (pad, pad, pad, pad))
    return _gather(samples, send(y, samples.device), send(x, samples.device))


def _mirror(samples: torch.Tensor, chosen: npt.NDArray[np.bool_]) -> torch.Tensor:
    """Mirror some samples left to right."""
    if samples.device.type != "cpu":
        where = send(chosen, samples.device).reshape(-1, *[1] * (samples.dim() - 1))
        return torch.where(where, samples.flip(-1), samples)
    mirrored = torch.empty_like(samples)
    for number, is_chosen in enumerate(chosen.tolist()):  # on a CPU, ten times as fast as choosing for each value
        mirrored[number] = samples[number].flip(-1) if is_chosen else samples[number]
    return mirrored


def _gather(samples: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return samples[b, ..., y[b, i], x[b, j]] as [B, ..., I, J]."""
    height, width = samples.shape[-2:]
    flat = samples.reshape(len(samples), -1, height * width)
    index = (y[:, :, None] * width + x[:, None, :]).reshape(len(samples), 1, -1)
    gathered = flat.gather(2, index.expand(-1, flat.shape[1], -1))
    return gathered.reshape(*samples.shape[:-2], y.shape[1], x.shape[1])


def _cutout(samples: torch.Tensor, side: int, words: Words, chosen: npt.NDArray[np.bool_]) -> torch.Tensor:
    """Set a square around a random pixel, clipped at the border, to zero (DeVries & Taylor 2017)."""
    height, width = samples.shape[-2:]
    top = below(words[:, _CUT_Y], height) - side // 2
    left = below(words[:, _CUT_X], width) - side // 2
    size = np.where(chosen, side, 0)
    return _blank(samples, np.stack([top, left, size, size], 1))


def _blank(samples: torch.Tensor, boxes: npt.NDArray[np.int64]) -> torch.Tensor:
    """Set one box (top, left, height, width) per sample to zero."""
    height, width = samples.shape[-2:]
    top, left, box_height, box_width = boxes[:, :, None].transpose(1, 0, 2)
    y, x = np.arange(height), np.arange(width)
    rows = send(((y < top) | (y >= top + box_height)).astype(np.uint8), samples.device)
    columns = send(((x < left) | (x >= left + box_width)).astype(np.uint8), samples.device)
    kept = (rows[:, :, None] | columns[:, None, :]).to(samples.dtype)
    return samples * kept.reshape(len(samples), *[1] * (samples.dim() - 3), height, width)  # faster than masked_fill


def resized_crop_boxes(
    config: ResizedCrop, words: Words, height: int | npt.NDArray[np.int64], width: int | npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Choose the boxes of random resized crops by torchvision's rule.

    Args:
        config: ranges of area and ratio.
        words: random words of stream RESIZED_CROP, [B, 24].
        height: height of the images in pixels, one number or [B].
        width: width of the images in pixels, one number or [B].

    Returns:
        Top, left, height, width in pixels, [B, 4].
    """
    height, width = np.broadcast_to(height, len(words)), np.broadcast_to(width, len(words))
    box_height, box_width = _sides(config, words, height * width)
    fits = (box_height > 0) & (box_height <= height[:, None]) & (box_width > 0) & (box_width <= width[:, None])
    found = _first_box(box_height, box_width, fits, words, height, width)
    return np.where(fits.any(axis=1, keepdims=True), found, _central(config, height, width))


def _sides(config: _Boxes, words: Words, area: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return both sides of ten boxes of random area and ratio, [B, 10] each; the second is `ratio` times the first."""
    share = area[:, None] * uniform(words[:, :_ATTEMPTS], *config.scale)
    low, high = (math.log(bound) for bound in config.ratio)
    ratio = np.exp(uniform(words[:, _ATTEMPTS : 2 * _ATTEMPTS], low, high))
    return np.rint(np.sqrt(share / ratio)).astype(np.int64), np.rint(np.sqrt(share * ratio)).astype(np.int64)


def _first_box(
    box_height: npt.NDArray[np.int64],
    box_width: npt.NDArray[np.int64],
    fits: npt.NDArray[np.bool_],
    words: Words,
    height: npt.NDArray[np.int64],
    width: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Put the first box that fits at a random position; where none fits, the result is arbitrary."""
    first = fits.argmax(1)[:, None]
    box_height, box_width = (np.take_along_axis(side, first, 1)[:, 0] for side in (box_height, box_width))
    top = below(words[:, _BOX_Y], np.maximum(height - box_height, 0) + 1)
    left = below(words[:, _BOX_X], np.maximum(width - box_width, 0) + 1)
    return np.stack([top, left, box_height, box_width], 1)


def _central(config: _Boxes, height: npt.NDArray[np.int64], width: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the largest central box whose ratio is allowed."""
    ratio = np.clip(width / height, *config.ratio)
    box_width = np.where(ratio < width / height, np.rint(height * ratio).astype(np.int64), width)
    box_height = np.where(ratio > width / height, np.rint(width / ratio).astype(np.int64), height)
    return np.stack([(height - box_height) // 2, (width - box_width) // 2, box_height, box_width], 1)


def erase(inputs: torch.Tensor, config: Erasing, rng: SampleRng) -> torch.Tensor:
    """Apply random erasing by torchvision's rule, with zeros.

    Args:
        inputs: normalised images [B, C, H, W].
        config: probability and ranges.
        rng: the random words of the samples.
    """
    height, width = (np.full(len(inputs), length) for length in inputs.shape[-2:])
    words = rng.words(Stream.ERASING, BOX_WORDS)
    box_width, box_height = _sides(config, words, height * width)
    fits = (box_height < height[:, None]) & (box_width < width[:, None])
    boxes = _first_box(box_height, box_width, fits, words, height, width)
    happens = fits.any(1) & (uniform(words[:, _HAPPENS]) < config.probability)
    return _blank(inputs, boxes * happens[:, None])
