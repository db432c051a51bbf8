"""AutoAugment of batches, on the device, each sample with its own operations and strengths.

Of two variants (see `loading.policies`), "torchvision" gives the results of torchvision for uint8 tensors; its Pillow backend,
which most published recipes use, differs by rounding. "sealkd" is the older code for Pillow images that SeAl-KD, TDD and ESD took
over: it rotates counter-clockwise only, shears by bicubic interpolation, and rounds translations instead of truncating. These
and the thresholds of solarizing equal Pillow's; all other operations are torchvision's in both.

Letters: B batch, C channel, H, W.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from spikedistill.data.loading.affine import rotation, shear_as_pillow, transform, transform_as_pillow
from spikedistill.data.loading.policies import Policy, Steps, Variant, choose_steps, policy_of
from spikedistill.data.loading.resample import send
from spikedistill.data.loading.rng import SampleRng
from spikedistill.lazy import torch


class Style(NamedTuple):
    """How operations are done.

    Attributes:
        variant: whose operations.
        fill: value of pixels from outside the image, 0 to 255.
    """

    variant: Variant = "torchvision"
    fill: int = 128


def auto_augment(images: torch.Tensor, policy: Policy, rng: SampleRng, style: Style = Style()) -> torch.Tensor:  # noqa: B008
    """Apply AutoAugment to uint8 [B, 3, H, W]."""
    images = images.clone()
    for steps in choose_steps(policy_of(policy, style.variant), rng):
        apply_steps(images, steps, style)
    return images


def apply_steps(images: torch.Tensor, steps: Steps, style: Style = Style()) -> None:  # noqa: B008
    """Apply one operation per sample, in place, to uint8 [B, 3, H, W]."""
    for names, change in _OPERATIONS[style.variant].items():
        rows = np.flatnonzero(steps.applied & np.isin(steps.operation, names))
        if len(rows):
            index = send(rows, images.device)
            part = change(images.index_select(0, index), steps.take(rows), style)
            images.index_copy_(0, index, part)


@functools.cache
def _levels(first: float, last: float) -> npt.NDArray[np.float64]:
    """Return ten strengths from weakest to strongest, rounded to float32 as in torchvision."""
    return torch.linspace(first, last, 10).double().numpy()


def _signed(steps: Steps, strongest: float) -> npt.NDArray[np.float64]:
    return _signs(steps) * _levels(0.0, strongest)[steps.strength]


def _exactly(steps: Steps, strongest: float) -> npt.NDArray[np.float64]:
    """Return the strengths as code for Pillow has them, from 0 to the strongest, not rounded to float32."""
    return np.linspace(0, strongest, 10)[steps.strength]


def _signs(steps: Steps) -> npt.NDArray[np.float64]:
    return np.where(steps.negative, -1.0, 1.0)


def _move(images: torch.Tensor, steps: Steps, style: Style) -> torch.Tensor:
    """Shear, translate or rotate as torchvision; each is an affine map from output to source coordinates."""
    height, width = images.shape[-2:]
    shear = _signed(steps, 0.3)
    matrices = rotation(np.where(steps.operation == "rotate", np.radians(_signed(steps, 30.0)), 0.0))
    across, down = steps.operation == "shear_x", steps.operation == "shear_y"
    matrices[across, 0, 1], matrices[across, 0, 2] = shear[across], shear[across] * height / 2
    matrices[down, 1, 0], matrices[down, 1, 2] = shear[down], shear[down] * width / 2
    for row, (name, length) in enumerate((("translate_x", width), ("translate_y", height))):
        chosen = steps.operation == name
        matrices[chosen, row, 2] = -np.trunc(_signed(steps, 150.0 / 331.0 * length))[chosen]
    return transform(images, matrices, fill=style.fill)


def _turn_or_translate(images: torch.Tensor, steps: Steps, style: Style) -> torch.Tensor:
    """Rotate counter-clockwise, or translate, as Pillow."""
    height, width = images.shape[-2:]
    angle = np.where(steps.operation == "rotate", np.radians(_exactly(steps, 30)), 0.0)
    maps = rotation(angle)
    maps[:, :, 2] = np.array([width, height]) / 2 - maps[:, :, 0] * (width / 2) - maps[:, :, 1] * (height / 2)
    for row, (name, length) in enumerate((("translate_x", width), ("translate_y", height))):
        chosen = steps.operation == name
        maps[chosen, row, 2] += (_signs(steps) * _exactly(steps, 150 / 331) * length)[chosen]
    return transform_as_pillow(images, maps, fill=style.fill)


def _shear(images: torch.Tensor, steps: Steps, style: Style) -> torch.Tensor:
    return shear_as_pillow(images, _signs(steps) * _exactly(steps, 0.3), fill=style.fill)


def _shear_down(images: torch.Tensor, steps: Steps, style: Style) -> torch.Tensor:
    return _shear(images.transpose(2, 3), steps, style).transpose(2, 3)


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


def _colour(images: torch.Tensor, steps: Steps, style: Style) -> torch.Tensor:
    return _blend(images, _grey(images), steps)


def _contrast(images: torch.Tensor, steps: Steps, style: Style) -> torch.Tensor:
    return _blend(images, _grey(images).to(torch.float32).mean((1, 2, 3), keepdim=True), steps)


def _sharpness(images: torch.Tensor, steps: Steps, style: Style) -> torch.Tensor:
    channels = images.shape[1]
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / np.float32(13)
    weight = send(kernel, images.device).expand(channels, 1, 3, 3)
    blurred = images.clone()
    precise = torch.float64 if images.is_cuda else torch.float32  # cuDNN would convolve float32 in TF32, and round differently
    inner = torch.nn.functional.conv2d(images.to(precise), weight.to(precise), groups=channels)
    blurred[..., 1:-1, 1:-1] = inner.round_().to(torch.uint8)
    return _blend(images, blurred, steps)


def _look_up(images: torch.Tensor, steps: Steps, style: Style) -> torch.Tensor:
    """Change brightness, posterize, solarize or invert: the new value of a pixel depends on its old value alone."""
    tables = send(_tables(steps, style), images.device)
    return tables.gather(1, images.reshape(len(images), -1).long()).reshape(images.shape)


def _tables(steps: Steps, style: Style) -> npt.NDArray[np.uint8]:
    """Return the new value of each old value, [B, 256]."""
    values = np.arange(256)
    factor = (1.0 + _signed(steps, 0.9)).astype(np.float32)[:, None]
    dropped = np.rint(steps.strength * (4 / 9)).astype(np.int64)[:, None]
    threshold = _levels(255.0 if style.variant == "torchvision" else 256.0, 0.0)[steps.strength].astype(np.float32)[:, None]
    tables = {
        "brightness": np.clip(factor * values.astype(np.float32), 0, 255),
        "posterize": values & (256 - (1 << dropped)),
        "solarize": np.where(values >= threshold, 255 - values, values),
        "invert": np.broadcast_to(255 - values, (len(factor), 256)),
    }
    chosen = [(steps.operation == name)[:, None] for name in tables]
    return np.select(chosen, [table.astype(np.uint8) for table in tables.values()])


def _autocontrast(images: torch.Tensor, steps: Steps, style: Style) -> torch.Tensor:
    minimum = images.amin((2, 3), keepdim=True).to(torch.float32)
    maximum = images.amax((2, 3), keepdim=True).to(torch.float32)
    flat = minimum == maximum
    scale = torch.where(flat, 1.0, 255.0 / (maximum - minimum))
    return ((images - torch.where(flat, 0.0, minimum)) * scale).clamp_(0, 255).to(torch.uint8)


def _equalize(images: torch.Tensor, steps: Steps, style: Style) -> torch.Tensor:
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


Operation: TypeAlias = "Callable[[torch.Tensor, Steps, Style], torch.Tensor]"

_COLOURS: dict[tuple[str, ...], Operation] = {
    ("brightness", "posterize", "solarize", "invert"): _look_up,
    ("color",): _colour,
    ("contrast",): _contrast,
    ("sharpness",): _sharpness,
    ("autocontrast",): _autocontrast,
    ("equalize",): _equalize,
}
_OPERATIONS: dict[Variant, dict[tuple[str, ...], Operation]] = {
    "torchvision": {("shear_x", "shear_y", "translate_x", "translate_y", "rotate"): _move, **_COLOURS},
    "sealkd": {
        ("translate_x", "translate_y", "rotate"): _turn_or_translate,
        ("shear_x",): _shear,
        ("shear_y",): _shear_down,
        **_COLOURS,
    },
}
