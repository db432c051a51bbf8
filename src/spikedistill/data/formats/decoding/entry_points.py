"""Entry points: where in a JPEG the data of some of its units begin, so that a part of it can be decoded without the rest.

They are kept beside the file; or in it, in an APP7 segment just before the compressed data. Decoders that do not know it skip
it, so the file remains a JPEG with the same pixels. All numbers are big-endian:

    "spikedistill entry points", 0
    uint8 [2]       1, the version; the number of units from an entry point to the next one in a row
    uint32 [C, 13]  of each component, the Huffman codes of differences of 0 to 11 bits, and that of the end of a block,
                    each as length << 16 | bits; 0: there is no such code
    E times         uint32: the first bit of the unit, counted from the first byte of the compressed data;
                    int16 [C]: the predictors of DC before it

Each row of units begins with an entry point; the very last one marks the end of the last unit.

Letters: C component, E entry point.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.decoding.jpeg_header import ENTRY_POINTS, EOI, Header

VERSION = 1
DC_CATEGORIES = 12
END_OF_BLOCK = DC_CATEGORIES
CODES = DC_CATEGORIES + 1
"""Of each component: the codes of differences of 0 to 11 bits, and that of the end of a block. Each is length << 16 | bits."""
COMPONENTS = {"grey": (0,), "444": (0, 1, 2), "422": (0, 0, 1, 2), "420": (0, 0, 0, 0, 1, 2)}
"""Of each kind of subsampling, the components of the blocks of a unit, in their order."""
LONGEST_CODE = 16

Integers = npt.NDArray[np.int64]


class EntryPoints(NamedTuple):
    """The entry points of a JPEG.

    Attributes:
        per_row: number of them in a row of units.
        step: number of units from one to the next in a row.
        codes: int64 [C, CODES], as in the file.
        entries: [E], as in the file.
    """

    per_row: int
    step: int
    codes: Integers
    entries: npt.NDArray[np.void]

    def end_with(self, content: bytes, header: Header) -> bool:
        """Return whether the data of a file end where the entry points say; if not, the file was replaced since."""
        at = header.data_at + (int(self.entries["place"][-1]) + 7) // 8
        return content[at : at + 2] == EOI or content[at : at + 3] == b"\0" + EOI

    def at(self, numbers: Integers) -> tuple[Integers, Integers]:
        """Return the first bits of some units, of the shape of `numbers`, and the predictors before them, [..., C]."""
        chosen = self.entries[numbers]
        return chosen["place"].astype(np.int64), chosen["predictors"].astype(np.int64)


def units(header: Header) -> tuple[int, int]:
    """Return how many rows and columns of units an image has."""
    return -(-header.height // header.unit_rows), -(-header.width // header.unit_columns)


def inside(content: bytes, header: Header) -> bytes:
    """Return the entry points that are in the file itself; empty if there are none."""
    return b"" if header.entry_points is None else content[header.entry_points[0] + 4 : header.entry_points[1]]


def parsed(points: bytes, header: Header) -> EntryPoints | None:
    """Return the entry points of an image; None if there are none, or they are of another version or of another image size.

    Args:
        points: what `written` returned.
        header: what `read_header` returned for the image.
    """
    at = len(ENTRY_POINTS)
    kinds = max(COMPONENTS[header.subsampling]) + 1
    codes, entry = np.dtype((">u4", (kinds, CODES))), entry_type(kinds)
    if not header.cuttable or len(points) < at + 2 + codes.itemsize or points[at] != VERSION or points[at + 1] < 1:
        return None
    step = points[at + 1]
    rows, columns = units(header)
    per_row = -(-columns // step)
    if len(points) != at + 2 + codes.itemsize + (rows * per_row + 1) * entry.itemsize:
        return None
    entries = np.frombuffer(points, entry, offset=at + 2 + codes.itemsize)
    of_components = np.frombuffer(points, codes, 1, at + 2)[0]
    if int(of_components.max()) >> 16 > LONGEST_CODE:
        return None
    return EntryPoints(per_row, step, of_components.astype(np.int64), entries)


def written(step: int, codes: Integers, entries: npt.NDArray[np.void]) -> bytes:
    """Return entry points in the form in which they are stored.

    Args:
        step: number of units from one to the next in a row, at most 255.
        codes: int64 [C, CODES]
        entries: [E] of `entry_type(C)`.
    """
    return ENTRY_POINTS + bytes([VERSION, step]) + codes.astype(">u4").tobytes() + entries.tobytes()


def entry_type(kinds: int) -> np.dtype[np.void]:
    """Return the type of an entry point of an image with that many components."""
    return np.dtype([("place", ">u4"), ("predictors", ">i2", (kinds,))])
