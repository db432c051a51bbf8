"""Encoded images that crops are made from: decoded by the fastest decoder available, and no further than the crop needs.

Letters: S side, H row, W column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.decoding import pillow, resample, turbo
from spikedistill.data.formats.decoding.jpeg_header import is_complete, read_header

if TYPE_CHECKING:
    from PIL import Image

Pixels = npt.NDArray[np.uint8]


class EncodedImage:
    """An encoded image that crops are made from.

    Attributes:
        height: in pixels.
        width: in pixels.
    """

    def __init__(self, name: str, content: bytes, *, fast: bool = False, points: bytes = b"") -> None:
        """Read the header; if this is not a usual JPEG, decode it now.

        Args:
            name: of the image, for messages.
            content: the file.
            fast: decode a JPEG at half, a quarter or an eighth of its size if the crop then still has at least as many pixels
                as it is resized to.
            points: the entry points of a JPEG, as `finding.found` returned them, unless they are in the file.

        Raises:
            DataError: if it cannot be decoded, as far as the header tells, or has more pixels than Pillow considers safe.
        """
        self._name, self._content, self._fast, self._points = name, content, fast, points
        self._picture: Image.Image | None = None
        header = read_header(content)
        if header is None or not is_complete(content, header):  # Pillow's error says what is missing
            self._header, self._picture = None, pillow.read_image(name, content)
            self.width, self.height = self._picture.size
        else:
            self._header, self.width, self.height = header, header.width, header.height
            if self.width * self.height > pillow.largest_image():
                raise pillow.too_large(name, self.width, self.height)

    def resized_box(self, box: Sequence[int], side: int, out: Pixels | None = None) -> Pixels:
        """Crop a box (top, left, height, width), all in pixels, and resize it to a square, antialiased.

        Args:
            box: of the image.
            side: S in pixels.
            out: uint8 [3, S, S] to write to; None: a new array.

        Returns:
            uint8 [3, S, S].

        Raises:
            DataError: if the image cannot be decoded.
        """
        top, left, height, width = box
        divisor = self._divisor(min(height, width), side)
        part = self._pixels(_divided(top, height, divisor), _divided(left, width, divisor), divisor)
        return _middle_of_resized(part, side, side, side, out)

    def middle_square(self, side: int, out: Pixels | None = None) -> Pixels:
        """Resize the shorter side to S, antialiased, and crop the middle square.

        Args:
            side: S in pixels.
            out: uint8 [3, S, S] to write to; None: a new array.

        Returns:
            uint8 [3, S, S].

        Raises:
            DataError: if the image cannot be decoded.
        """
        divisor = self._divisor(min(self.height, self.width), side)
        pixels = self._pixels(slice(0, -(-self.height // divisor)), slice(0, -(-self.width // divisor)), divisor)
        return _middle_of_resized(pixels, *pillow.covering(self.width, self.height, side), side, out)

    def _divisor(self, length: int, side: int) -> int:
        """Return the largest divisor of the image's sides that leaves at least `side` of `length` pixels; 1 unless `fast`."""
        if not self._fast or self._header is None:
            return 1
        return next((divisor for divisor in turbo.DIVISORS if length >= divisor * side), 1)

    def _pixels(self, rows: slice, columns: slice, divisor: int) -> Pixels:
        """Return a box of the downscaled image, [H, W, 4], which the next call in the same thread may overwrite."""
        if self._header is not None and turbo.is_usable(self._header):
            try:
                return turbo.decode(self._content, self._header, rows, columns, divisor=divisor, points=self._points)
            except ValueError:  # Pillow can decode some of these, and its error says what is wrong with the others
                pass
        picture = self._picture or pillow.read_image(self._name, self._content, divisor=divisor)
        return pillow.to_pixels(picture)[rows, columns]


def _divided(start: int, length: int, divisor: int) -> slice:
    """Return the pixels of a downscaled image that are nearest to a range of pixels of the full image."""
    return slice(round(start / divisor), round((start + length) / divisor))


def _middle_of_resized(pixels: Pixels, width: int, height: int, side: int, out: Pixels | None) -> Pixels:
    """Resize pixels [H, W, 4], antialiased, and crop the middle square, uint8 [3, S, S]."""
    found = np.empty((3, side, side), dtype=np.uint8) if out is None else out
    if not resample.write_middle_square(pixels, height, width, found):
        found[:] = pillow.middle_of_resized(pillow.from_pixels(pixels), width, height, side)[:3]
    return found
