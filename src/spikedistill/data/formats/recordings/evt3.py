"""EVT3: the encoding of Prophesee's newer sensors. 16-bit words set row, time or column, or hold one or more events. Numpy only.

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
KNOWN = np.isin(np.arange(16), TYPES)
EVENT = np.isin(np.arange(16), (ADDR_X, VECT_12, VECT_8))
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
        strange = ~KNOWN[kind]
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
    is_row = kind == ADDR_Y
    at = np.flatnonzero(EVENT[kind])
    single = kind[at] == ADDR_X
    mask = np.where(single, 1, np.where(kind[at] == VECT_8, content[at] & 0xFF, content[at]))
    base, base_p = _bases(kind, content, at, state)
    x0, p = np.where(single, content[at] & 0x7FF, base), np.where(single, content[at] >> 11, base_p)
    rows = np.concatenate([[state.y], content[is_row] & 0x7FF])
    y = rows[_count_before(is_row, at)]
    t, known = _times(kind, content, at, state)
    known &= (y >= 0) & (x0 >= 0)
    which, bit = _set_bits(mask, single)
    whole = known[which]
    which, bit = which[whole], bit[whole]
    state.y = int(rows[-1])
    return (t[which], x0[which] + bit, y[which], p[which]), int(np.count_nonzero(~whole))


def _set_bits(mask: Ints, single: npt.NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Return the index of a mask, and the number of the bit, for each bit that is set, in the order of both.

    Args:
        mask: of 12 bits each.
        single: whether only bit 0 is set; most are, and take less time.
    """
    vectors = np.flatnonzero(~single)
    row, bit = np.nonzero(mask[vectors, None] >> np.arange(12) & 1)
    lengths = np.ones(mask.size, dtype=np.int64)
    lengths[vectors] = np.bincount(row, minlength=vectors.size)
    which = np.repeat(np.arange(mask.size), lengths)
    bits = np.zeros(which.size, dtype=np.int64)
    bits[~single[which]] = bit
    return which, bits


def _count_before(marked: npt.NDArray[np.bool_], at: npt.NDArray[np.intp]) -> Ints:
    """Return how many words are marked before each of some places, which are not marked themselves."""
    return np.cumsum(marked, dtype=np.int64)[at]


def _times(
    kind: npt.NDArray[np.uint8], content: Ints, at: npt.NDArray[np.intp], state: _State
) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Return the time of each event, and whether it is known. A new high part sets the low one to zero."""
    highs = np.flatnonzero(kind == TIME_HIGH)
    before = np.concatenate([[state.high if state.high >= 0 else -1], content[highs]])
    loops = state.loops + np.cumsum((before[:-1] >= 0) & (before[:-1] >= (CLOCK >> 1) + before[1:]))
    whole = np.concatenate([[state.loops * CLOCK + before[0]], loops * CLOCK + before[1:]])
    count = _count_before(kind == TIME_HIGH, at)
    known = (count > 0) | (state.high >= 0)
    is_set = kind == TIME_LOW
    is_set[highs[before[1:] != before[:-1]]] = True
    values = np.where(kind[is_set] == TIME_LOW, content[is_set], 0)
    low = np.concatenate([[state.low], values])[_count_before(is_set, at)]
    if highs.size:
        state.high, state.loops = int(before[-1]), int(loops[-1])
    state.low = int(values[-1]) if values.size else state.low
    return whole[count] * CLOCK + low, known


def _bases(kind: npt.NDArray[np.uint8], content: Ints, at: npt.NDArray[np.intp], state: _State) -> tuple[Ints, Ints]:
    """Return the column of the first bit of each vector, which moves on by the length of each vector, and its polarity."""
    lengths = np.select([kind[at] == VECT_12, kind[at] == VECT_8], [12, 8], 0)
    ends = np.cumsum(lengths)
    places = np.flatnonzero(kind == VECT_BASE_X)
    starts = np.concatenate([[0], np.concatenate([[0], ends])[_count_before(EVENT[kind], places)]])
    values = np.concatenate([[state.base], content[places] & 0x7FF])
    index = _count_before(kind == VECT_BASE_X, at)
    moved = ends - lengths - starts[index]
    base = np.where(values[index] < 0, -1, values[index] + moved)
    polarity = np.concatenate([[state.base_p], content[places] >> 11])
    total = int(ends[-1]) if ends.size else 0
    if values[-1] >= 0:
        state.base, state.base_p = int(values[-1]) + total - int(starts[-1]), int(polarity[-1])
    return base, polarity[index]
