"""Conversion of stored samples to network inputs, in training and evaluation: crop, size, scale. Imports no torch.

Letters: T frame, B batch, C channel, H, W.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from pydantic import Field

from spikedistill.components import Section
from spikedistill.data.loading.resample import resize, resized_crop
from spikedistill.data.meta import DatasetMeta
from spikedistill.lazy import torch

STATISTICS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and standard deviation per channel in published recipes; for CIFAR-10, the latter is averaged over single images."""


class Resize(Section):
    """Resize to a square by bilinear interpolation."""

    size: int = Field(ge=1, description="Side in pixels.")
    antialias: bool = Field(
        description="Average over all source pixels when shrinking. Published results depend on it: torchvision's default for "
        "tensors was false up to 0.16 and is true since 0.17."
    )


class InputConfig(Section):
    """How a stored sample becomes the input of teachers and students; `train.augment` adds random changes."""

    center_crop: int | None = Field(
        None, ge=1, description="Images: side in pixels of the central crop; also the size of random resized crops."
    )
    resize: Resize | None = Field(None, description="Resize to a square, after `center_crop`.")
    encoding: Literal["counts", "counts_255", "pil_wrap"] = Field(
        "counts",
        description="Event frames: counts, the counts n; counts_255, n / 255; pil_wrap, the result of converting float counts to "
        "8-bit Pillow images and back, (-n mod 256) / 255, resized with antialiasing in 8 bits.",
    )
    normalize: Literal["train", "cifar10", "cifar100", "imagenet"] = Field(
        "train",
        description="Images: mean and standard deviation per channel, those of the training split or published ones.",
    )

    decode: Literal["exact", "fast"] = Field(
        "exact",
        description="Images that stay in files: exact, the pixels that Pillow gives, however they are decoded; fast, JPEG "
        "decoded to a half, a quarter or an eighth of its size where the crop is then still as large as what it is resized to.",
    )

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of an input, given those of a stored sample."""
        side = self.resize.size if self.resize else self.center_crop
        return (side, side) if side else (height, width)

    def problems(self, meta: DatasetMeta) -> Iterator[tuple[str, str]]:
        """Yield the keys that do not fit the dataset, each with the reason."""
        if meta.kind == "images" and self.encoding != "counts":
            yield "encoding", f"{self.encoding!r} is for event counts, not for images"
        if meta.kind == "frames" and self.center_crop:
            yield "center_crop", "is for images; event frames can be resized"
        if meta.kind == "frames" and self.normalize != "train":
            yield "normalize", "is for images; event frames are not normalised"
        if self.normalize != "train" and meta.kind == "images" and meta.channels != 3:
            yield "normalize", f"{self.normalize!r} is for 3 channels; the images have {meta.channels}"
        if self.center_crop and self.center_crop > min(meta.height, meta.width):
            yield "center_crop", f"{self.center_crop} exceeds the images of {meta.height}x{meta.width}"
        if self.decode != "exact" and not meta.in_files:
            yield "decode", f"{self.decode!r} is for images that stay in files; these samples are decoded when they are prepared"
        if self.encoding == "pil_wrap" and self.resize and not self.resize.antialias:
            yield "resize.antialias", "must be true with encoding 'pil_wrap': Pillow has no resize without it"


def encode_frames(frames: torch.Tensor, config: InputConfig) -> torch.Tensor:
    """Encode and resize event counts [B, T, 2, H, W]: floats, or the counts themselves when nothing changes."""
    if config.encoding == "pil_wrap":
        return _pil_wrap(frames, config.resize.size if config.resize else None)
    if config.encoding == "counts_255":
        frames = frames.to(torch.float32) / 255
    if config.resize:
        frames = resize(frames.to(torch.float32), config.resize.size, antialias=config.resize.antialias)
    return frames


def _pil_wrap(frames: torch.Tensor, size: int | None) -> torch.Tensor:
    """Reproduce torchvision's ToPILImage, Resize and ToTensor, which the loaders of some published methods apply to frames.

    Pillow interprets two channels as grey and opacity, and resizes grey times opacity.
    """
    wrapped = (frames.to(torch.int32) * 255) % 256
    if size is None:
        return wrapped.to(torch.float32) / 255
    height, width = wrapped.shape[-2:]
    flat = wrapped.reshape(-1, 2, height, width)
    product = flat[:, 0] * flat[:, 1] + 128
    product = ((product >> 8) + product) >> 8
    boxes = np.tile(np.array([0, 0, height, width]), (len(flat), 1))
    resized = resized_crop(torch.stack([product, flat[:, 1]], 1).to(torch.uint8), boxes, size).to(torch.int32)
    grey, opacity = resized[:, 0], resized[:, 1]
    undone = (255 * grey // opacity.clamp(min=1)).clamp(max=255)
    grey = torch.where((opacity == 0) | (opacity == 255), grey, undone)
    return (torch.stack([grey, opacity], 1).to(torch.float32) / 255).reshape(*frames.shape[:-2], size, size)


def crop_images(images: torch.Tensor, config: InputConfig) -> torch.Tensor:
    """Crop images, uint8 [B, C, H, W], to the centre and resize them."""
    if config.center_crop:
        top, left = (round((length - config.center_crop) / 2) for length in images.shape[-2:])
        images = images[..., top : top + config.center_crop, left : left + config.center_crop]
    if config.resize:
        resized = resize(images.to(torch.float32), config.resize.size, antialias=config.resize.antialias)
        images = resized.round_().clamp_(0, 255).to(torch.uint8)
    return images


def normalize(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Scale images of 0..255 to [0, 1], subtract the mean and divide by the standard deviation, [1, C, 1, 1] each."""
    return images.to(torch.float32).div_(255).sub_(mean).div_(std)
