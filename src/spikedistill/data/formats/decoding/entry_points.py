"""Entry points: where in a JPEG the data of some of its units begin, so that a part of it can be decoded without the rest.

They are kept beside the file; or in it, in a segment APP7 just before the compressed data. Decoders that do not know it skip it:
the file remains a JPEG with the same pixels. Most significant bytes first:

    "spikedistill entry points", 0
    uint8 [2]       1, the version; the number of units from an entry point to the next one in a row
    uint32 [C, 13]  of each component, the Huffman codes of differences of 0 to 11 bits, and that of the end of a block,
                    each as length << 16 | bits; 0: there is no such code
    E times         uint32: the first bit of the unit, counted from the first byte of the compressed data;
                    int16 [C]: the predictors of DC before it

A row of units begins with an entry point; the last one of all is behind the last unit.

Letters: C component, E entry point.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.decoding.jpeg_header import APP7, ENTRY_POINTS, EOI, Header, is_complete, read_header

VERSION = 1
DC_CATEGORIES = 12
END_OF_BLOCK = DC_CATEGORIES
CODES = DC_CATEGORIES + 1
"""Of each component: the codes of differences of 0 to 11 bits, and that of the end of a block. Each is length << 16 | bits."""
COMPONENTS = {"grey": (0,), "444": (0, 1, 2), "422": (0, 0, 1, 2), "420": (0, 0, 0, 0, 1, 2)}
"""Of each kind of subsampling, the components of the blocks of a unit, in their order."""
_EVERY = 32  # pixels from an entry point to the next one, or a power of two as many
_LONGEST = 65_533  # bytes in a segment
_LARGEST_PREDICTOR = (1 << 15) - 1
_LARGEST_STEP = 255
_DHT, _DRI, _END = 0xC4, 0xDD, 0xD9
_CODE_LENGTHS = 16
_DC, _AC = 0, 1

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
        """Return whether the data of a file end where these say: they are not those of a file that was replaced since."""
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
    """Return the entry points that are in a file itself; no bytes if there are none."""
    return b"" if header.entry_points is None else content[header.entry_points[0] + 4 : header.entry_points[1]]


def parsed(points: bytes, header: Header) -> EntryPoints | None:
    """Return the entry points of an image; None if there are none, or those of an image of another size, or of another version.

    Args:
        points: what `found` returned.
        header: what `read_header` returned for the image.
    """
    at = len(ENTRY_POINTS)
    kinds = max(COMPONENTS[header.subsampling]) + 1
    codes, entry = np.dtype((">u4", (kinds, CODES))), _entry(kinds)
    if not header.cuttable or len(points) < at + 2 + codes.itemsize or points[at] != VERSION or points[at + 1] < 1:
        return None
    step = points[at + 1]
    rows, columns = units(header)
    per_row = -(-columns // step)
    if len(points) != at + 2 + codes.itemsize + (rows * per_row + 1) * entry.itemsize:
        return None
    entries = np.frombuffer(points, entry, offset=at + 2 + codes.itemsize)
    of_components = np.frombuffer(points, codes, 1, at + 2)[0]
    if int(of_components.max()) >> 16 > _CODE_LENGTHS:
        return None
    return EntryPoints(per_row, step, of_components.astype(np.int64), entries)


def added(content: bytes) -> bytes:
    """Return a JPEG with entry points in it; the file as it is where it has or can have none.

    Raises:
        ImportError: if Numba is not installed.
    """
    header = read_header(content)
    points = b"" if header is None or header.entry_points is not None else found(content)
    if header is None or not points:
        return content
    marker = bytes([0xFF, APP7]) + (len(points) + 2).to_bytes(2, "big")
    return content[: header.scan_at] + marker + points + content[header.scan_at :]


def found(content: bytes) -> bytes:
    """Return the entry points of a JPEG; no bytes for a file that has none: one that is progressive, for instance.

    Raises:
        ImportError: if Numba is not installed.
    """
    from spikedistill.data.formats.decoding import entropy

    header = read_header(content)
    if header is None or not header.cuttable or not is_complete(content, header):
        return b""
    read = _compressed_data(content, header)
    tables = _huffman_tables(content, header)
    if read is None or tables is None:
        return b""
    data, stuffed = read
    kinds = len(tables)
    rows, columns = units(header)
    step = _step(header, _LONGEST - len(ENTRY_POINTS) - 2 - kinds * CODES * 4)
    if step > _LARGEST_STEP:
        return b""
    entries = np.zeros(rows * -(-columns // step) + 1, dtype=_entry(kinds))
    places, predictors = np.zeros(len(entries), dtype=np.int64), np.zeros((len(entries), kinds), dtype=np.int64)
    padded = np.concatenate([data, np.zeros(entropy.SLACK, dtype=np.uint8)])
    lookups = np.stack([np.stack([_lookup(table[_DC]), _lookup(table[_AC])]) for table in tables])
    components = np.array(COMPONENTS[header.subsampling])
    if not entropy.find_entry_points(padded, 8 * len(data), lookups, components, (rows, columns, step), places, predictors):
        return b""
    places += 8 * np.searchsorted(stuffed, places >> 3)
    if places[-1] >> 32 or np.abs(predictors).max() > _LARGEST_PREDICTOR:
        return b""
    entries["place"], entries["predictors"] = places, predictors
    codes = np.array(
        [[*(_code(table[_DC], size) for size in range(DC_CATEGORIES)), _code(table[_AC], 0)] for table in tables], dtype=">u4"
    )
    return ENTRY_POINTS + bytes([VERSION, step]) + codes.tobytes() + entries.tobytes()


def _entry(kinds: int) -> np.dtype[np.void]:
    return np.dtype([("place", ">u4"), ("predictors", ">i2", (kinds,))])


def _step(header: Header, space: int) -> int:
    """Return how many units apart the entry points can be, so that they fit into some bytes."""
    rows, columns = units(header)
    step = _EVERY // header.unit_columns
    while (rows * -(-columns // step) + 1) * _entry(max(COMPONENTS[header.subsampling]) + 1).itemsize > space:
        step *= 2
    return step


def _compressed_data(content: bytes, header: Header) -> tuple[npt.NDArray[np.uint8], Integers] | None:
    """Return the data without the zeros that follow each 255, and where these were left out; None if there are other markers.

    Those places are the numbers of the bytes 255 among what is left.
    """
    data = np.frombuffer(content, np.uint8, offset=header.data_at)
    marks = np.flatnonzero(data[:-1] == 255)
    behind = data[marks + 1]
    ends = np.flatnonzero(behind)
    if not len(ends) or behind[ends[0]] != _END:
        return None
    stuffed = marks[: ends[0]]
    left = np.delete(data[: marks[ends[0]]], stuffed + 1)
    return left, stuffed - np.arange(len(stuffed))


Table = dict[int, tuple[int, int]]
"""Length and bits of the code of each symbol."""


def _huffman_tables(content: bytes, header: Header) -> list[tuple[Table, Table]] | None:
    """Return the tables of each component, for DC and the rest; None if one is not there, or the data have restart markers."""
    known: dict[int, Table] = {}
    at = 2
    while at < header.scan_at:
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if marker == _DRI and any(content[at + 4 : at + 6]):
            return None
        if marker == _DHT:
            known |= _defined(content[at + 4 : at + 2 + length])
        at += 2 + length
    scan = content[header.scan_at + 5 : header.data_at]
    selectors = scan[1 : 2 * (max(COMPONENTS[header.subsampling]) + 1) : 2]
    found = [(known.get(each >> 4), known.get(1 << 4 | each & 15)) for each in selectors]
    return [(dc, ac) for dc, ac in found if dc and ac] if all(dc and ac for dc, ac in found) else None


def _defined(segment: bytes) -> dict[int, Table]:
    """Return the tables of a segment DHT, by class (4 bits) and number."""
    found = {}
    while len(segment) > _CODE_LENGTHS:
        counts = segment[1 : 1 + _CODE_LENGTHS]
        symbols = iter(segment[1 + _CODE_LENGTHS : 1 + _CODE_LENGTHS + sum(counts)])
        table: Table = {}
        code = 0
        for length, count in enumerate(counts, start=1):
            for symbol in (next(symbols, None) for _ in range(count)):
                if symbol is not None and code < 1 << length:
                    table[symbol] = length, code
                code += 1
            code <<= 1
        found[segment[0]] = table
        segment = segment[1 + _CODE_LENGTHS + sum(counts) :]
    return found


def _lookup(table: Table) -> npt.NDArray[np.uint16]:
    """Return length << 8 | symbol for each 16 bits that begin with a code, else 0."""
    found = np.zeros(1 << 16, dtype=np.uint16)
    for symbol, (length, code) in table.items():
        found[code << (16 - length) : (code + 1) << (16 - length)] = length << 8 | symbol
    return found


def _code(table: Table, symbol: int) -> int:
    length, code = table.get(symbol, (0, 0))
    return length << 16 | code
