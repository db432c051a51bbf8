"""Finding the entry points of JPEG files, once, so that parts of them can be decoded later.

Importing this needs Numba.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.decoding import entropy
from spikedistill.data.formats.decoding.entry_points import (
    CODES,
    COMPONENTS,
    DC_CATEGORIES,
    LONGEST_CODE,
    Integers,
    entry_type,
    units,
    written,
)
from spikedistill.data.formats.decoding.jpeg_header import APP7, ENTRY_POINTS, Header, is_complete, read_header

_EVERY = 32  # pixels from an entry point to the next one; doubled until all of them fit into a segment
_LONGEST_SEGMENT = 65_533  # bytes
_LARGEST_PREDICTOR = (1 << 15) - 1
_LARGEST_STEP = 255
_DHT, _DRI, _END = 0xC4, 0xDD, 0xD9
_DC, _AC = 0, 1


def added(content: bytes) -> bytes:
    """Return a JPEG with entry points in it; the file as it is if it has them already, or can have none."""
    header = read_header(content)
    points = b"" if header is None or header.entry_points is not None else found(content)
    if header is None or not points:
        return content
    marker = bytes([0xFF, APP7]) + (len(points) + 2).to_bytes(2, "big")
    return content[: header.scan_at] + marker + points + content[header.scan_at :]


def found(content: bytes) -> bytes:
    """Return the entry points of a JPEG; empty for a file that can have none, such as a progressive one."""
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
    step = _step(header, _LONGEST_SEGMENT - len(ENTRY_POINTS) - 2 - kinds * CODES * 4)
    if step > _LARGEST_STEP:
        return b""
    entries = np.zeros(rows * -(-columns // step) + 1, dtype=entry_type(kinds))
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
    codes = np.array([[*(_code(table[_DC], size) for size in range(DC_CATEGORIES)), _code(table[_AC], 0)] for table in tables])
    return written(step, codes, entries)


def _step(header: Header, space: int) -> int:
    """Return how many units apart the entry points must be to fit into `space` bytes."""
    rows, columns = units(header)
    step = _EVERY // header.unit_columns
    while (rows * -(-columns // step) + 1) * entry_type(max(COMPONENTS[header.subsampling]) + 1).itemsize > space:
        step *= 2
    return step


def _compressed_data(content: bytes, header: Header) -> tuple[npt.NDArray[np.uint8], Integers] | None:
    """Return the data without stuffed zeros, and where these were left out; None if there are other markers.

    Those places are the positions of the bytes 255 in the returned data.
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
    """Return the tables of each component, for DC and AC; None if one is missing, or the data have restart markers."""
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
    """Return the tables of a DHT segment, by class (4 bits) and number."""
    found = {}
    while len(segment) > LONGEST_CODE:
        counts = segment[1 : 1 + LONGEST_CODE]
        symbols = iter(segment[1 + LONGEST_CODE : 1 + LONGEST_CODE + sum(counts)])
        table: Table = {}
        code = 0
        for length, count in enumerate(counts, start=1):
            for symbol in (next(symbols, None) for _ in range(count)):
                if symbol is not None and code < 1 << length:
                    table[symbol] = length, code
                code += 1
            code <<= 1
        found[segment[0]] = table
        segment = segment[1 + LONGEST_CODE + sum(counts) :]
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
