"""AutoAugment and rotation of batches, on the device: torchvision's operations on tensors, each sample with its own strength.

The policies are those of AutoAugment (Cubuk et al. 2019, arXiv:1805.09501, appendix). Results equal torchvision's for uint8
tensors with `fill` 128; its Pillow backend, which most published recipes use, differs by rounding.

Letters: B batch, C channel, H, W.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spikedistill.data.loading.resample import send
from spikedistill.data.loading.rng import SampleRng, Stream, below, uniform
from spikedistill.lazy import torch

FILL = 128.0
"""Grey value of pixels from outside the image."""

_Step = tuple[str, float, int]  # operation, probability, strength 0..9
_POLICIES: dict[str, tuple[tuple[_Step, _Step], ...]] = {
    "cifar10": (
        (("invert", 0.1, 0), ("contrast", 0.2, 6)),
        (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
        (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
        (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
        (("autocontrast", 0.5, 0), ("equalize", 0.9, 0)),
        (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
        (("color", 0.4, 3), ("brightness", 0.6, 7)),
        (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
        (("equalize", 0.6, 0), ("equalize", 0.5, 0)),
        (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
        (("color", 0.7, 7), ("translate_x", 0.5, 8)),
        (("equalize", 0.3, 0), ("autocontrast", 0.4, 0)),
        (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
        (("brightness", 0.9, 6), ("color", 0.2, 8)),
        (("solarize", 0.5, 2), ("invert", 0.0, 0)),
        (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
        (("equalize", 0.2, 0), ("equalize", 0.6, 0)),
        (("color", 0.9, 9), ("equalize", 0.6, 0)),
        (("autocontrast", 0.8, 0), ("solarize", 0.2, 8)),
        (("brightness", 0.1, 3), ("color", 0.7, 0)),
        (("solarize", 0.4, 5), ("autocontrast", 0.9, 0)),
        (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
        (("autocontrast", 0.9, 0), ("solarize", 0.8, 3)),
        (("equalize", 0.8, 0), ("invert", 0.1, 0)),
        (("translate_y", 0.7, 9), ("autocontrast", 0.9, 0)),
    ),
    "imagenet": (
        (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
        (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
        (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
        (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
        (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
        (("equalize", 0.4, 0), ("rotate", 0.8, 8)),
        (("solarize", 0.6, 3), ("equalize", 0.6, 0)),
        (("posterize", 0.8, 5), ("equalize", 1.0, 0)),
        (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
        (("equalize", 0.6, 0), ("posterize", 0.4, 6)),
        (("rotate", 0.8, 8), ("color", 0.4, 0)),
        (("rotate", 0.4, 9), ("equalize", 0.6, 0)),
        (("equalize", 0.0, 0), ("equalize", 0.8, 0)),
        (("invert", 0.6, 0), ("equalize", 1.0, 0)),
        (("color", 0.6, 4), ("contrast", 1.0, 8)),
        (("rotate", 0.8, 8), ("color", 1.0, 2)),
        (("color", 0.8, 8), ("solarize", 0.8, 7)),
        (("sharpness", 0.4, 7), ("invert", 0.6, 0)),
        (("shear_x", 0.6, 5), ("equalize", 1.0, 0)),
        (("color", 0.4, 0), ("equalize", 0.6, 0)),
        (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
        (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
        (("invert", 0.6, 0), ("equalize", 1.0, 0)),
        (("color", 0.6, 4), ("contrast", 1.0, 8)),
        (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
    ),
}


class Steps(NamedTuple):
    """One of the two operations of each sample's sub-policy, [B] each.

    Attributes:
        operation: name of the operation.
        strength: 0 to 9.
        negative: whether the operation goes in the opposite direction.
        applied: whether the operation is applied at all.
    """

    operation: npt.NDArray[np.str_]
    strength: npt.NDArray[np.int64]
    negative: npt.NDArray[np.bool_]
    applied: npt.NDArray[np.bool_]

    def take(self, rows: npt.NDArray[np.int64]) -> Steps:
        """Return the steps of some samples."""
        return Steps(self.operation[rows], self.strength[rows], self.negative[rows], self.applied[rows])


def choose_steps(policy: str, rng: SampleRng) -> tuple[Steps, Steps]:
    """Choose both operations of each sample at random, with their strengths and directions."""
    words = rng.words(Stream.AUTO_AUGMENT, 8)
    chosen = below(words[:, 0], len(_POLICIES[policy]))
    halves = []
    for half in range(2):
        table = [_POLICIES[policy][number][half] for number in chosen]
        operation, probability, strength = (np.array(column) for column in zip(*table, strict=True))
        applied = uniform(words[:, 1 + half]) < probability
        halves.append(Steps(operation, strength, below(words[:, 3 + half], 2) == 1, applied))
    return halves[0], halves[1]


def auto_augment(images: torch.Tensor, policy: str, rng: SampleRng) -> torch.Tensor:
    """Apply AutoAugment to uint8 [B, 3, H, W]."""
    images = images.clone()
    for steps in choose_steps(policy, rng):
        apply_steps(images, steps)
    return images


def apply_steps(images: torch.Tensor, steps: Steps) -> None:
    """Apply one operation per sample, in place, to uint8 [B, 3, H, W]."""
    for names, change in _OPERATIONS.items():
        rows = np.flatnonzero(steps.applied & np.isin(steps.operation, names))
        if len(rows):
            index = send(rows, images.device)
            part = change(images.index_select(0, index), steps.take(rows))
            images.index_copy_(0, index, part)


def rotate(samples: torch.Tensor, degrees: npt.NDArray[np.float64], rows: npt.NDArray[np.int64]) -> torch.Tensor:
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
    turned = _transform(part.reshape(len(rows), -1, height, width), _rotation(np.radians(degrees[rows])), fill=0.0)
    return samples.index_copy(0, index, turned.reshape(part.shape))


def _rotation(radians: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    cos, sin, zero = np.cos(-radians), np.sin(-radians), np.zeros_like(radians)
    return np.stack([cos, sin, zero, -sin, cos, zero], 1).reshape(-1, 2, 3)


@functools.cache
def _levels(first: float, last: float) -> npt.NDArray[np.float64]:
    """Return ten strengths from weakest to strongest, rounded to float32 as in torchvision."""
    return torch.linspace(first, last, 10).double().numpy()


def _signed(steps: Steps, strongest: float) -> npt.NDArray[np.float64]:
    return np.where(steps.negative, -1.0, 1.0) * _levels(0.0, strongest)[steps.strength]


def _move(images: torch.Tensor, steps: Steps) -> torch.Tensor:
    """Shear, translate or rotate; each is an affine map from output to source coordinates."""
    height, width = images.shape[-2:]
    shear = _signed(steps, 0.3)
    matrices = _rotation(np.where(steps.operation == "rotate", np.radians(_signed(steps, 30.0)), 0.0))
    across, down = steps.operation == "shear_x", steps.operation == "shear_y"
    matrices[across, 0, 1], matrices[across, 0, 2] = shear[across], shear[across] * height / 2
    matrices[down, 1, 0], matrices[down, 1, 2] = shear[down], shear[down] * width / 2
    for row, (name, length) in enumerate((("translate_x", width), ("translate_y", height))):
        chosen = steps.operation == name
        matrices[chosen, row, 2] = -np.trunc(_signed(steps, 150.0 / 331.0 * length))[chosen]
    return _transform(images, matrices, fill=FILL)


def _transform(images: torch.Tensor, matrices: npt.NDArray[np.float64], *, fill: float) -> torch.Tensor:
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


def _column(values: npt.NDArray[np.float64], images: torch.Tensor) -> torch.Tensor:
    """Return one number per sample as [B, 1, 1, 1] on the device of `images`."""
    return send(values.astype(np.float32), images.device).reshape(-1, 1, 1, 1)


def _blend(images: torch.Tensor, other: torch.Tensor, steps: Steps) -> torch.Tensor:
    """Return (1 + s) * images - s * other, where s is the signed strength."""
    factor = 1.0 + _signed(steps, 0.9)
    mixed = _column(factor, images) * images + _column(1.0 - factor, images) * other
    return mixed.clamp_(0, 255).to(torch.uint8)


def _grey(images: torch.Tensor) -> torch.Tensor:
    red, green, blue = images.unbind(1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).to(torch.uint8)[:, None]


def _colour(images: torch.Tensor, steps: Steps) -> torch.Tensor:
    return _blend(images, _grey(images), steps)


def _contrast(images: torch.Tensor, steps: Steps) -> torch.Tensor:
    return _blend(images, _grey(images).to(torch.float32).mean((1, 2, 3), keepdim=True), steps)


def _sharpness(images: torch.Tensor, steps: Steps) -> torch.Tensor:
    channels = images.shape[1]
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / np.float32(13)
    weight = send(kernel, images.device).expand(channels, 1, 3, 3)
    blurred = images.clone()
    precise = torch.float64 if images.is_cuda else torch.float32  # cuDNN would convolve float32 in TF32, and round differently
    inner = torch.nn.functional.conv2d(images.to(precise), weight.to(precise), groups=channels)
    blurred[..., 1:-1, 1:-1] = inner.round_().to(torch.uint8)
    return _blend(images, blurred, steps)


def _look_up(images: torch.Tensor, steps: Steps) -> torch.Tensor:
    """Change brightness, posterize, solarize or invert: what becomes of a value depends on nothing else."""
    tables = send(_tables(steps), images.device)
    return tables.gather(1, images.reshape(len(images), -1).long()).reshape(images.shape)


def _tables(steps: Steps) -> npt.NDArray[np.uint8]:
    """Return what becomes of each value, [B, 256]."""
    values = np.arange(256)
    factor = (1.0 + _signed(steps, 0.9)).astype(np.float32)[:, None]
    dropped = np.rint(steps.strength * (4 / 9)).astype(np.int64)[:, None]
    threshold = _levels(255.0, 0.0)[steps.strength].astype(np.float32)[:, None]
    tables = {
        "brightness": np.clip(factor * values.astype(np.float32), 0, 255),
        "posterize": values & (256 - (1 << dropped)),
        "solarize": np.where(values >= threshold, 255 - values, values),
        "invert": np.broadcast_to(255 - values, (len(factor), 256)),
    }
    chosen = [(steps.operation == name)[:, None] for name in tables]
    return np.select(chosen, [table.astype(np.uint8) for table in tables.values()])


def _autocontrast(images: torch.Tensor, steps: Steps) -> torch.Tensor:
    minimum = images.amin((2, 3), keepdim=True).to(torch.float32)
    maximum = images.amax((2, 3), keepdim=True).to(torch.float32)
    flat = minimum == maximum
    scale = torch.where(flat, 1.0, 255.0 / (maximum - minimum))
    return ((images - torch.where(flat, 0.0, minimum)) * scale).clamp_(0, 255).to(torch.uint8)


def _equalize(images: torch.Tensor, steps: Steps) -> torch.Tensor:
    """Equalise the histogram of each channel of each image by a look-up table."""
    batch, channels = images.shape[:2]
    planes = images.reshape(batch * channels, -1).long()
    one = torch.ones((1, 1), dtype=torch.int64, device=images.device)
    histogram = torch.zeros((len(planes), 256), dtype=torch.int64, device=images.device)
    histogram.scatter_add_(1, planes, one.expand_as(planes))  # `bincount` would wait for the GPU
    last = torch.where(histogram > 0, torch.arange(256, device=images.device), 0).amax(1, keepdim=True)
    step = (planes.shape[1] - histogram.gather(1, last)) // 255
    before = histogram.cumsum(1) - histogram
    table = ((before + step // 2) // step.clamp(min=1)).clamp(max=255)
    return torch.where(step == 0, planes, table.gather(1, planes)).to(torch.uint8).reshape(images.shape)


_OPERATIONS: dict[tuple[str, ...], Callable[[torch.Tensor, Steps], torch.Tensor]] = {
    ("shear_x", "shear_y", "translate_x", "translate_y", "rotate"): _move,
    ("brightness", "posterize", "solarize", "invert"): _look_up,
    ("color",): _colour,
    ("contrast",): _contrast,
    ("sharpness",): _sharpness,
    ("autocontrast",): _autocontrast,
    ("equalize",): _equalize,
}
