"""Recordings of Prophesee's cameras: .raw (EVT2, EVT3) and .dat. Numpy only.

Formats: https://docs.prophesee.ai/stable/data/encoding_formats/index.html and
https://docs.prophesee.ai/stable/data/file_formats/dat.html. Timestamps are microseconds; a clock that wraps around is continued.
Events before the first whole timestamp are dropped and counted, as Prophesee's decoder drops them.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.recordings.columns import How, Table
from spikedistill.data.formats.recordings.evt3 import decode_evt3
from spikedistill.errors import DataError

MAX_HEADER = 64 << 10
BLOCK = 1 << 20  # words at a time
EVT2_TIME_HIGH, EVT2_TYPES = 0x8, (0x0, 0x1, 0x8, 0xA, 0xE, 0xF)
EVT2_KNOWN = np.isin(np.arange(16), EVT2_TYPES)
EVT2_CLOCK = 1 << 28  # of its high part, in steps of 64 us
DAT_CD = (0x00, 0x0C)  # types of events with a pixel and a polarity
_FORMAT = re.compile(r"(?:format|evt)\s+(?:EVT)?(\d+(?:\.\d+)?)", re.IGNORECASE)
_GEOMETRY = re.compile(r"geometry\s+(\d{1,5})\s*x\s*(\d{1,5})", re.IGNORECASE)
_SIDES = {side: re.compile(rf"\b{side}\s*[=\s]\s*(\d{{1,5}})", re.IGNORECASE) for side in ("height", "width")}


class Header(NamedTuple):
    """The lines of text above the events: their bytes, the version of the encoding and the sensor, where they say it."""

    length: int
    version: str | None
    sensor: tuple[int, int] | None


def read_raw(content: bytes, name: str, how: How) -> Table:
    """Read a .raw file in EVT2 or EVT3.

    Raises:
        DataError: if it is damaged, or does not say that it is one of the two.
    """
    header = read_header(content, name)
    if header.version not in ("2", "3"):
        found = f"EVT {header.version}" if header.version else "no line '% evt 3.0' or '% format EVT3' in its header"
        raise DataError(
            f"{name}: expected EVT2 or EVT3, found {found}; convert it with Prophesee's tools, to .dat or HDF5 for instance"
        )
    size = 4 if header.version == "2" else 2
    left = (len(content) - header.length) % size
    if left and how.truncated == "error":
        raise DataError(
            f"{name}: truncated: {left} of {size} bytes at offset {len(content) - left}; get the file again, "
            "or set truncated: drop"
        )
    count = (len(content) - header.length) // size
    words = np.frombuffer(content, dtype=f"<u{size}", offset=header.length, count=count)
    table = (_decode_evt2 if size == 4 else decode_evt3)(words, name, header.length)
    return table._replace(sensor=header.sensor, dropped=table.dropped + bool(left))


def read_header(content: bytes, name: str) -> Header:
    """Read the lines that begin with %, up to `% end` where it has that.

    Raises:
        DataError: if there are none, or they do not end.
    """
    position, lines = 0, []
    while content[position : position + 1] == b"%":
        end = content.find(b"\n", position, position + MAX_HEADER)
        if end < 0 or position > MAX_HEADER:
            raise DataError(f"{name}: its header has no end; damaged")
        line = content[position + 1 : end].decode("latin1").strip()
        position = end + 1
        if line == "end":
            break
        lines.append(line)
    if not position:
        raise DataError(f"{name}: not a recording of Prophesee's: it begins with {content[:12]!r} instead of %; another format?")
    text = "\n".join(lines)
    version = _FORMAT.search(text)
    return Header(position, version[1].removesuffix(".0") if version else None, _sensor(text))


def _sensor(text: str) -> tuple[int, int] | None:
    if match := _GEOMETRY.search(text):
        return int(match[2]), int(match[1])
    sides = [pattern.search(text) for pattern in _SIDES.values()]
    return (int(sides[0][1]), int(sides[1][1])) if sides[0] and sides[1] else None


def _decode_evt2(words: npt.NDArray[np.uint32], name: str, offset: int) -> Table:
    """Decode 32-bit words: type (bits 28-31), low time (22-27), column (11-21), row (0-10); or type and high time (0-27)."""
    blocks, dropped, clock = [], 0, _Clock()
    for first in range(0, words.size, BLOCK):
        part = words[first : first + BLOCK]
        kind = (part >> 28).astype(np.uint8)
        strange = ~EVT2_KNOWN[kind]
        if strange.any():
            at = int(np.argmax(strange))
            raise DataError(f"{name}: no EVT2 event at offset {offset + 4 * (first + at)} ({int(part[at]):#010x}); damaged")
        times = np.flatnonzero(kind == EVT2_TIME_HIGH)
        pixels = np.flatnonzero(kind <= 1)
        high, known = clock.at(pixels, times, part[times] & np.uint32(0x0FFFFFFF))
        dropped += pixels.size - int(np.count_nonzero(known))
        word = part[pixels[known]]
        blocks.append((high[known] << 6 | (word >> 22 & 0x3F), word >> 11 & 0x7FF, word & 0x7FF, word >> 28))
    return _joined(blocks, dropped)


class _Clock:
    """The high part of the time of EVT2, carried from block to block; a fall by more than half of its range is a wrap."""

    def __init__(self) -> None:
        self._now: int | None = None
        self._loops = 0

    def at(
        self, places: npt.NDArray[np.intp], times: npt.NDArray[np.intp], values: npt.NDArray[np.uint32]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return the high part of the time at some places, and whether it is known there.

        Args:
            places: positions in a block.
            times: positions of the words that set the clock.
            values: what they set it to.
        """
        before = values[:1] if self._now is None else np.array([self._now], np.uint32)
        steps = np.diff(np.concatenate([before, values]).astype(np.int64))
        loops = self._loops + np.cumsum(steps < -(EVT2_CLOCK >> 1))
        whole = loops * EVT2_CLOCK + values.astype(np.int64)
        start = 0 if self._now is None else self._loops * EVT2_CLOCK + self._now
        index = np.searchsorted(times, places)
        found = np.concatenate([[start], whole])[index]
        known = (index > 0) | (self._now is not None)
        if values.size:
            self._now, self._loops = int(values[-1]), int(loops[-1])
        return found, known


def _joined(blocks: list[Any], dropped: int) -> Table:
    """Return the table of blocks of t, x, y and p."""
    t, x, y, p = (np.concatenate(column) for column in zip(*blocks, strict=True)) if blocks else (np.empty(0, np.int64),) * 4
    return Table(t, x, y, p, "us", None, "0/1", dropped)


def read_dat(content: bytes, name: str, how: How) -> Table:
    """Read a .dat file: 8 bytes per event, a 32-bit time, then column (bits 0-13), row (14-27) and polarity (28).

    Raises:
        DataError: if it is damaged, or holds events of another type.
    """
    header = read_header(content, name)
    kind, size = content[header.length : header.length + 1], content[header.length + 1 : header.length + 2]
    if not size or kind[0] not in DAT_CD or size[0] != 8:
        found = f"type {kind[0]} of {size[0]} bytes" if size else "no such bytes"
        raise DataError(f"{name}: expected events of type 0 or 12 of 8 bytes at offset {header.length}, found {found}; damaged?")
    start = header.length + 2
    left = (len(content) - start) % 8
    if left and how.truncated == "error":
        raise DataError(
            f"{name}: truncated: {left} of 8 bytes at offset {len(content) - left}; get the file again, or set truncated: drop"
        )
    words = np.frombuffer(content, dtype="<u4", offset=start, count=2 * ((len(content) - start) // 8)).reshape(-1, 2)
    time, place = words[:, 0].astype(np.int64), words[:, 1]
    time = time + (np.cumsum(np.diff(time, prepend=time[:1]) < -(1 << 31)) << 32)
    strange = place >> 28 > 1
    if strange.any():
        at = int(np.argmax(strange))
        raise DataError(
            f"{name}: the event at offset {start + 8 * at} has the polarity {int(place[at] >> 28)}, expected 0 or 1; damaged"
        )
    return Table(time, place & 0x3FFF, place >> 14 & 0x3FFF, place >> 28, "us", header.sensor, "0/1", int(bool(left)))
