"""Decoding by libjpeg-turbo through simplejpeg, which releases the GIL and writes into a buffer that it is given.

Letters: H row, W column.
"""

from __future__ import annotations

import functools
import io
import logging
import math
import re
import threading

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.decoding import parts
from spikedistill.data.formats.decoding.jpeg_header import SUBSAMPLINGS, Header, read_header

try:
    from simplejpeg import decode_jpeg
except ImportError:  # not available for every processor
    decode_jpeg = None

log = logging.getLogger(__name__)

DIVISORS = (8, 4, 2)
"""Divisors of both sides of an image that a decoder supports, by computing fewer pixels from each block of 8x8 coefficients."""
_PIXEL = 4  # bytes: red, green, blue and one more, as Pillow has them
_PICTURE = (45, 53)  # height and width of the picture that decoders are compared on: neither fills its last block

_SURPLUS = re.compile(r"Corrupt JPEG data: \d+ extraneous bytes before marker 0x[0-9a-f]{2}")
"""The warning to expect of a file whose height was reduced. The first warning is reported, unless an error ends the decoding."""

_scratch = threading.local()


def is_usable(header: Header) -> bool:
    """Return whether `decode` gives the same bits as Pillow does for images like this one."""
    return header.subsampling in same_as_pillow()


def decode(
    content: bytes, header: Header, rows: slice, columns: slice, *, divisor: int = 1, points: bytes = b""
) -> npt.NDArray[np.uint8]:
    """Decode a box of an image, and as little of what surrounds it as the file allows.

    Args:
        content: the file.
        header: what `read_header` returned for it.
        rows: of the box, in the downscaled image.
        columns: of the box, in the downscaled image.
        divisor: of both sides of the image, 1 or one of DIVISORS; the result is rounded up.
        points: as for `parts.around`.

    Returns:
        uint8 [H, W, 4], the box; red, green, blue, and 255. It is overwritten by the next call in the same thread.

    Raises:
        ValueError: if the data are damaged.
    """
    whole_rows, whole_columns = (slice(each.start * divisor, each.stop * divisor) for each in (rows, columns))
    part = parts.around(content, header, whole_rows, whole_columns, points)
    shape = (-(-part.height // divisor), -(-part.width // divisor), _PIXEL)
    buffer = _buffer(math.prod(shape))
    wanted = {"min_height": shape[0], "min_width": shape[1]} if divisor > 1 else {}
    try:
        found = decode_jpeg(part.content, colorspace="RGBX", buffer=buffer, **wanted).shape
    except ValueError as err:
        if not part.has_surplus or not _SURPLUS.fullmatch(str(err)):
            raise
        found = shape  # all was decoded; the warning is about the rest of the data
    if found != shape:
        raise ValueError(f"decoded to {found}, expected {shape}")
    top, left = part.top // divisor, part.left // divisor
    pixels = buffer[: math.prod(shape)].reshape(shape)
    return pixels[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]


def _buffer(size: int) -> npt.NDArray[np.uint8]:
    """Return memory of this thread, of at least `size` bytes, which need not be mapped anew for each image."""
    buffer: npt.NDArray[np.uint8] | None = getattr(_scratch, "buffer", None)
    if buffer is None or len(buffer) < size:
        buffer = _scratch.buffer = np.empty(size, dtype=np.uint8)
    return buffer


@functools.cache
def same_as_pillow() -> frozenset[str]:
    """Return the kinds of subsampling for which this decoder gives the same bits as Pillow's, which may use another library.

    A small picture of each kind is encoded, decoded by both, and compared.
    """
    if decode_jpeg is None:
        log.info("JPEG images are decoded by Pillow: simplejpeg is not installed")
        return frozenset()
    same = frozenset(name for name in SUBSAMPLINGS.values() if _is_same(name))
    if others := sorted(set(SUBSAMPLINGS.values()) - same):
        log.info("JPEG images with chroma %s are decoded by Pillow, whose library gives other pixels here", ", ".join(others))
    return same


def _is_same(subsampling: str) -> bool:
    from PIL import Image

    values = np.random.Philox(key=[0, 0]).random_raw(_PICTURE[0] * _PICTURE[1] * 3).astype(np.uint8)
    picture = Image.fromarray(values.reshape(*_PICTURE, 3))
    encoded = io.BytesIO()
    if subsampling == "grey":
        picture.convert("L").save(encoded, "JPEG", quality=90)
    else:
        picture.save(encoded, "JPEG", quality=90, subsampling=":".join(subsampling))
    content = encoded.getvalue()
    header = read_header(content)
    if header is None or header.subsampling != subsampling:
        return False
    for divisor, rows in [(1, 1), (1, 16), (1, 30), *((each, _PICTURE[0]) for each in (1, *DIVISORS))]:
        with Image.open(encoded) as image:
            if divisor > 1:
                image.draft("RGB", (_PICTURE[1] // divisor, _PICTURE[0] // divisor))
            expected = np.asarray(image.convert("RGB"))
        needed = slice(0, -(-rows // divisor))
        try:
            found = decode(content, header, needed, slice(0, expected.shape[1]), divisor=divisor)
        except ValueError:
            return False
        if not np.array_equal(found[..., :3], expected[needed]):
            return False
    return True
