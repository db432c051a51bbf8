"""Users' own pictures in any usual format, as arrays of one shape. Pillow is imported on first use.

Letters: N picture, C channel (1 or 3), H row, W column.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.decoding.pillow import largest_image
from spikedistill.data.formats.images import ImageFiles
from spikedistill.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "PPM")  # none for which Pillow starts other programs
SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".pbm")
GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N")
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # tag and value of TIFF
Channels = Literal[1, 3]


class Shape(NamedTuple):
    """Height and width of a picture in pixels, and whether it is grey (1) or has colours (3)."""

    height: int
    width: int
    channels: Channels


class Fit(NamedTuple):
    """The shape of all pictures. With `crop`, they are resized and cropped to it; otherwise, another size is an error."""

    height: int
    width: int
    channels: Channels
    crop: bool


class Pictures(ImageFiles):
    """Pictures in files, as arrays uint8 [C, H, W]."""

    def __init__(self, root: Path, rows: Sequence[Mapping[str, Any]], fit: Fit) -> None:
        """Use files below a folder; see `ImageFiles`."""
        super().__init__(root, rows, min(fit.height, fit.width))
        self.shape = (len(rows), fit.channels, fit.height, fit.width)
        self._fit = fit

    def decoded(self, row: int, content: bytes) -> Image.Image:
        """Decode one picture and bring it to size."""
        name, fit = self.name(row), self._fit
        image = _opened(name, content, fit.channels)
        if not fit.crop:
            if image.size != (fit.width, fit.height):
                raise DataError(
                    f"{name}: {image.width} x {image.height} pixels, where {fit.width} x {fit.height} are expected; state "
                    "dataset.params.side to have all pictures resized and cropped to squares"
                )
            return image
        return _covering(image, name, fit)

    @property
    def how(self) -> dict[str, Any]:
        """Return the shape that all pictures get."""
        return {"fit": list(self._fit)}

    def values(self, row: int, content: bytes) -> npt.NDArray[np.uint8]:
        """Return the values of one picture in an array, [C, H, W], from its bytes.

        Raises:
            DataError: if it cannot be used.
        """
        values = np.asarray(self.decoded(row, content))
        return values.reshape(*values.shape[:2], -1).transpose(2, 0, 1)


def shape_of(path: Path) -> Shape:
    """Return the shape of a picture from its header.

    Raises:
        DataError: if it is not a picture.
        OSError: if it cannot be opened.
    """
    from PIL import Image

    with path.open("rb") as stream:
        try:
            with Image.open(stream, formats=FORMATS) as image:
                return Shape(image.height, image.width, 1 if _is_grey(image) else 3)
        except Exception as err:  # damaged bytes can make a decoder raise anything
            raise _undecodable(str(path), err) from err


def _is_grey(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "LA", *GREY_16, "I", "F")


def _opened(name: str, content: bytes, channels: Channels) -> Image.Image:
    """Decode a picture to grey or RGB, 8 bits per value.

    16-bit grey values are divided by 256. Alpha channels are left out. Colours become grey by Pillow's luma (ITU-R 601-2).
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            problem = _problem(image)
            if problem is None:
                return _in_8_bits(image).convert("L" if channels == 1 else "RGB")
    except Exception as err:  # damaged bytes can make a decoder raise anything
        raise _undecodable(name, err) from err
    raise DataError(f"{name}: {problem}")


def _in_8_bits(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode in GREY_16 or _is_16_bit_pgm(image):
        values = np.asarray(image).astype(np.uint16)
        if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # type: ignore[attr-defined]
            values = ~values  # as Pillow does with 8 bits
        return Image.fromarray((values >> 8).astype(np.uint8))
    return image.convert("RGBA") if image.mode == "P" else image


def _is_16_bit_pgm(image: Image.Image) -> bool:
    """Return whether Pillow has scaled the values to 16 bits, and calls them 32-bit ones."""
    return image.format == "PPM" and image.mode == "I"


def _problem(image: Image.Image) -> str | None:
    if image.width * image.height > largest_image():
        return f"{image.width} x {image.height} pixels, more than {largest_image()} in all; another file?"
    if getattr(image, "n_frames", 1) != 1:
        return f"{getattr(image, 'n_frames', 1)} pictures in one file; save them one by one"
    if image.mode in ("I", "F") and not _is_16_bit_pgm(image):
        return f"32-bit values (mode {image.mode}), whose range is not known; save it with 8 or 16 bits"
    return None


def _undecodable(name: str, err: Exception) -> DataError:
    from PIL import Image

    said = f"none of {', '.join(FORMATS)}" if isinstance(err, Image.UnidentifiedImageError) else str(err)[:200] or repr(err)
    return DataError(f"{name}: not a picture that can be decoded ({said}); get it again")


def _covering(image: Image.Image, name: str, fit: Fit) -> Image.Image:
    """Resize a picture, antialiased, so that it just covers a shape, and crop the middle."""
    from PIL import Image

    if image.width * fit.height <= image.height * fit.width:
        size = (fit.width, image.height * fit.width // image.width)
    else:
        size = (image.width * fit.height // image.height, fit.height)
    if size[0] * size[1] > largest_image():
        raise DataError(f"{name}: {image.width} x {image.height} pixels, too narrow to be resized; another file?")
    if size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - fit.width) / 2), round((size[1] - fit.height) / 2)
    return image.crop((left, top, left + fit.width, top + fit.height))
