"""Parts of JPEG files: smaller JPEG files around a crop, made without decoding, which decode to bit-identical pixels."""

from __future__ import annotations

import functools
import threading
from types import ModuleType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.decoding import entry_points
from spikedistill.data.formats.decoding.jpeg_header import EOI, Header

_WORTH_IT = 0.9  # largest part that is cut out, as a share of the units that would be decoded otherwise
_BYTES_OF_UNIT = 128  # of an inserted one, at most
_scratch = threading.local()


class Part(NamedTuple):
    """A JPEG of a part of an image.

    Attributes:
        content: the file.
        top: row of the image that its first row is.
        left: column of the image that its first column is.
        height: in pixels.
        width: in pixels.
        has_surplus: whether data that do not belong to it follow, of which decoders warn.
    """

    content: bytes | bytearray | npt.NDArray[np.uint8]
    top: int
    left: int
    height: int
    width: int
    has_surplus: bool = False


def around(content: bytes, header: Header, rows: slice, columns: slice, points: bytes = b"") -> Part:
    """Return the smallest part that can be cut out around a box, or the whole image.

    It has the pixels of the box and those next to it, because subsampled chroma is interpolated between them. So the box decodes
    to the same bits as in the whole image.

    Args:
        content: the file.
        header: what `read_header` returned for it.
        rows: of the box, within the image.
        columns: of the box, within the image.
        points: its entry points, as `finding.found` returned them; empty: those in the file, if there are any.
    """
    parsed = entry_points.parsed(points or entry_points.inside(content, header), header)
    found = None if parsed is None else _between(content, header, parsed, rows, columns)
    return found or _first_rows(content, header, rows.stop)


@functools.cache
def _entropy() -> ModuleType | None:
    """Return the compiled functions; None without Numba."""
    try:
        from spikedistill.data.formats.decoding import entropy
    except ImportError:
        return None
    return entropy


def _first_rows(content: bytes, header: Header, rows: int) -> Part:
    """Return a JPEG of the first rows of another one, and at least one more: the same data with a smaller height in the header.

    A decoder stops after the last of these rows; libjpeg warns that the bytes that follow are extraneous.
    """
    height = (rows // header.unit_rows + 1) * header.unit_rows
    if not header.cuttable or height >= header.height:
        return Part(content, 0, 0, header.height, header.width)
    cut = bytearray(content)
    _set_size(cut, header, height, header.width)
    return Part(cut, 0, 0, height, header.width, has_surplus=True)


def _set_size(file: bytearray | npt.NDArray[np.uint8], header: Header, height: int, width: int) -> None:
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    file[header.height_at : header.height_at + 4] = size if isinstance(file, bytearray) else np.frombuffer(size, np.uint8)


def _between(content: bytes, header: Header, points: entry_points.EntryPoints, rows: slice, columns: slice) -> Part | None:
    """Return a JPEG of the units between entry points, without what is above, below, to the left and to the right.

    Where units are left out, the DC predictors of the next unit are wrong. Inserted units restore them: one before each row, or
    after each row if the part begins at the left edge, whose pixels must stay at the edge. For the same reason, a whole row is
    then inserted before the first one, rather than one unit. At least the pixels next to the box lie between it and those units.

    Returns:
        The part; None if it has about as many units as all rows down to the end of the box, the entry points do not match the
        data, or Numba is missing.
    """
    down, across = entry_points.units(header)
    first = max(rows.start - 1, 0) // header.unit_rows
    last = min(rows.stop // header.unit_rows + 1, down)
    left = max(columns.start - 1, 0) // header.unit_columns // points.step
    right = min(columns.stop // header.unit_columns // points.step + 1, points.per_row)
    whole_rows = left == 0 and right == points.per_row
    lead = left == 0 and first > 0
    begin, end = left * points.step, min(right * points.step, across)
    height, width = last - first + lead, end - begin + (not whole_rows)
    entropy = _entropy()
    if entropy is None or height * width > _WORTH_IT * last * across or not points.end_with(content, header):
        return None
    edges = np.arange(first, last)[:, None] * points.per_row + np.array([left, right])
    if whole_rows:
        edges = np.array([[edges[0, 0], edges[-1, 1]]])
    source = np.frombuffer(content, np.uint8)
    without = header.entry_points or (header.scan_at, header.scan_at)
    head = header.data_at - (without[1] - without[0])
    file = _buffer(head + 2 * len(content) + _BYTES_OF_UNIT * height * width + len(EOI))
    file[: without[0]] = source[: without[0]]
    file[without[0] : head] = source[without[1] : header.data_at]
    written = entropy.copy_units(
        source[header.data_at :],
        *points.at(edges),
        points.codes,
        np.array(entry_points.COMPONENTS[header.subsampling]),
        (width if lead else 0, left > 0, left == 0 and not whole_rows),
        file[head:],
    )
    if written < 0:
        return None
    file[head + written : head + written + len(EOI)] = np.frombuffer(EOI, np.uint8)
    top, beside = (first - lead) * header.unit_rows, (begin - (left > 0)) * header.unit_columns
    pixels = (
        header.height - top if last == down else height * header.unit_rows,
        header.width - beside if end == across else width * header.unit_columns,
    )
    _set_size(file, header, *pixels)
    return Part(file[: head + written + len(EOI)], top, beside, *pixels)


def _buffer(size: int) -> npt.NDArray[np.uint8]:
    """Return scratch memory of this thread, of at least `size` bytes, which the next call overwrites."""
    buffer: npt.NDArray[np.uint8] | None = getattr(_scratch, "buffer", None)
    if buffer is None or len(buffer) < size:
        buffer = _scratch.buffer = np.empty(size, dtype=np.uint8)
    return buffer
