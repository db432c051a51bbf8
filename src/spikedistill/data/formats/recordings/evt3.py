"""EVT3: the encoding of Prophesee's newer sensors. 16-bit words set row, time or column, or are one event or several. Numpy only.

Format: https://docs.prophesee.ai/stable/data/encoding_formats/evt3.html. The upper 4 bits of a word are its type.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.recordings.columns import Table
from spikedistill.errors import DataError

ADDR_Y, ADDR_X, VECT_BASE_X, VECT_12, VECT_8, TIME_LOW, TIME_HIGH = 0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x8
OTHERS = (0x7, 0xA, 0xE, 0xF)  # continuations, external triggers, notes of the camera
TYPES = (ADDR_Y, ADDR_X, VECT_BASE_X, VECT_12, VECT_8, TIME_LOW, TIME_HIGH, *OTHERS)
CLOCK = 1 << 12  # of the high and of the low part of the time
BLOCK = 1 << 20  # words at a time

Words = npt.NDArray[np.uint16]
Ints = npt.NDArray[np.int64]


@dataclass
class _State:
    """What the words so far have set; -1: nothing yet."""

    y: int = -1
    high: int = -1
    loops: int = 0
    low: int = 0
    base: int = -1
    base_p: int = 0


def decode_evt3(words: Words, name: str, offset: int) -> Table:
    """Decode the words of an EVT3 recording.

    Args:
        words: all words.
        name: of the file, for messages.
        offset: of the first word in the file.

    Raises:
        DataError: if there is a word of a type that EVT3 does not have.
    """
    blocks, dropped, state = [], 0, _State()
    for first in range(0, words.size, BLOCK):
        part = words[first : first + BLOCK]
        kind = (part >> 12).astype(np.uint8)
        strange = ~np.isin(kind, TYPES)
        if strange.any():
            at = int(np.argmax(strange))
            raise DataError(f"{name}: no EVT3 word at offset {offset + 2 * (first + at)} ({int(part[at]):#06x}); damaged")
        columns, left_out = _decode_block(kind, (part & 0xFFF).astype(np.int64), state)
        blocks.append(columns)
        dropped += left_out
    t, x, y, p = (np.concatenate(each) for each in zip(*blocks, strict=True)) if blocks else (np.empty(0, np.int64),) * 4
    return Table(t, x, y, p, "us", None, "0/1", dropped)


def _decode_block(kind: npt.NDArray[np.uint8], content: Ints, state: _State) -> tuple[tuple[Ints, Ints, Ints, Ints], int]:
    """Return t, x, y and p of the events of a block, and how many were left out; update the state."""
    at = np.flatnonzero((kind == ADDR_X) | (kind == VECT_12) | (kind == VECT_8))
    single = kind[at] == ADDR_X
    mask = np.where(single, 1, np.where(kind[at] == VECT_8, content[at] & 0xFF, content[at]))
    base, base_p = _bases(kind, content, at, state)
    x0, p = np.where(single, content[at] & 0x7FF, base), np.where(single, content[at] >> 11, base_p)
    y = _latest(np.flatnonzero(kind == ADDR_Y), content & 0x7FF, at, state.y)
    t, known = _times(kind, content, at, state)
    known &= (y >= 0) & (x0 >= 0)
    which, bit = np.nonzero(mask[:, None] >> np.arange(12) & 1)  # in the order of the words, then of the bits
    whole = known[which]
    which, bit = which[whole], bit[whole]
    rows = np.flatnonzero(kind == ADDR_Y)
    state.y = int(content[rows[-1]] & 0x7FF) if rows.size else state.y
    return (t[which], x0[which] + bit, y[which], p[which]), int(np.count_nonzero(~whole))


def _latest(places: npt.NDArray[np.intp], content: Ints, at: npt.NDArray[np.intp], start: int) -> Ints:
    """Return what the last of some words before each event says, or what was set before the block."""
    return np.concatenate([[start], content[places]])[np.searchsorted(places, at)]


def _times(
    kind: npt.NDArray[np.uint8], content: Ints, at: npt.NDArray[np.intp], state: _State
) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Return the time of each event, and whether it is known. A new high part sets the low one to zero."""
    highs = np.flatnonzero(kind == TIME_HIGH)
    before = np.concatenate([[state.high if state.high >= 0 else -1], content[highs]])
    loops = state.loops + np.cumsum((before[:-1] >= 0) & (before[:-1] >= (CLOCK >> 1) + before[1:]))
    whole = np.concatenate([[state.loops * CLOCK + before[0]], loops * CLOCK + before[1:]])
    high = whole[np.searchsorted(highs, at)]
    known = np.searchsorted(highs, at) > 0 if state.high < 0 else np.ones(at.size, dtype=bool)
    changes = highs[before[1:] != before[:-1]]
    setters = np.union1d(np.flatnonzero(kind == TIME_LOW), changes)
    values = np.where(kind[setters] == TIME_LOW, content[setters], 0)
    low = np.concatenate([[state.low], values])[np.searchsorted(setters, at)]
    if highs.size:
        state.high, state.loops = int(before[-1]), int(loops[-1])
    state.low = int(values[-1]) if values.size else state.low
    return high * CLOCK + low, known


def _bases(kind: npt.NDArray[np.uint8], content: Ints, at: npt.NDArray[np.intp], state: _State) -> tuple[Ints, Ints]:
    """Return the column of the first bit of each vector, which moves on by the length of each vector, and its polarity."""
    lengths = np.select([kind[at] == VECT_12, kind[at] == VECT_8], [12, 8], 0)
    ends = np.cumsum(lengths)
    places = np.flatnonzero(kind == VECT_BASE_X)
    starts = np.concatenate([[0], np.concatenate([[0], ends])[np.searchsorted(at, places)]])
    values = np.concatenate([[state.base], content[places] & 0x7FF])
    index = np.searchsorted(places, at)
    moved = ends - lengths - starts[index]
    base = np.where(values[index] < 0, -1, values[index] + moved)
    polarity = np.concatenate([[state.base_p], content[places] >> 11])
    total = int(ends[-1]) if ends.size else 0
    if values[-1] >= 0:
        state.base, state.base_p = int(values[-1]) + total - int(starts[-1]), int(polarity[-1])
    return base, polarity[index]
