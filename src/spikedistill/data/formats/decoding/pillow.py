"""Images decoded and resized by Pillow, as torchvision does with Pillow images. Pillow is imported on first use.

Letters: S side, H row, W column, C channel.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spikedistill.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("JPEG", "PNG")  # no others are tried, because Pillow starts other programs for some
_PIXEL = 4  # bytes


def read_image(name: str, content: bytes, *, divisor: int = 1) -> Image.Image:
    """Decode an image, JPEG or PNG, to RGB.

    Args:
        name: of the image, for messages.
        content: its bytes.
        divisor: 1, or for a JPEG 2, 4 or 8: what both sides are divided by, and rounded up, before any pixel is computed.

    Raises:
        DataError: if it cannot be decoded, or has more pixels than Pillow considers safe.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            if width * height <= largest_image():
                if divisor > 1:
                    image.draft("RGB", (width // divisor, height // divisor))
                return image.convert("RGB")
    except Exception as err:  # damaged bytes can make a decoder raise anything
        said = "neither JPEG nor PNG" if isinstance(err, Image.UnidentifiedImageError) else str(err) or repr(err)
        start = f"; its first bytes are {content[:8]!r}" if isinstance(err, Image.UnidentifiedImageError) else ""
        raise DataError(f"{name}: not an image that can be decoded ({said}{start}); get it again") from err
    raise too_large(name, width, height)


def largest_image() -> int:
    """Return the number of pixels above which an image is not decoded."""
    from PIL import Image

    return Image.MAX_IMAGE_PIXELS or 1 << 27


def too_large(name: str, width: int, height: int) -> DataError:
    """Return the error of an image that has more pixels than Pillow considers safe."""
    found = f"{width} x {height} pixels, more than {largest_image()} in all"
    return DataError(f"{name}: not an image that can be decoded ({found}); another file?")


def covering(width: int, height: int, side: int) -> tuple[int, int]:
    """Return the width and height of an image whose shorter side is resized to `side`, as torchvision computes them."""
    shorter = min(width, height)
    return int(side * width / shorter), int(side * height / shorter)


def middle_square(image: Image.Image, side: int) -> npt.NDArray[np.uint8]:
    """Resize the shorter side to `side` pixels, antialiased, and crop the middle square.

    Its centre crop to fewer pixels equals that of torchvision's `Resize(side)` followed by `CenterCrop`.

    Returns:
        uint8 [C, S, S].
    """
    return middle_of_resized(image, *covering(*image.size, side), side)


def middle_of_resized(image: Image.Image, width: int, height: int, side: int) -> npt.NDArray[np.uint8]:
    """Resize an image, antialiased, and crop the middle square.

    Returns:
        uint8 [C, S, S].
    """
    from PIL import Image

    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (round((length - side) / 2) for length in (width, height))
    return to_array(image.crop((left, top, left + side, top + side)))


def to_array(image: Image.Image) -> npt.NDArray[Any]:
    """Return an image of several channels as [C, H, W]."""
    return np.asarray(image).transpose(2, 0, 1)


def to_pixels(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Return an RGB image as [H, W, 4]: red, green, blue, and 255."""
    return np.asarray(image.convert("RGBX"))


def from_pixels(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    """Return pixels [H, W, 4] as an image of four channels, none of which is an opacity."""
    from PIL import Image

    height, width, _ = pixels.shape
    return Image.frombuffer("RGBX", (width, height), np.ascontiguousarray(pixels), "raw", "RGBX", width * _PIXEL, 1)
