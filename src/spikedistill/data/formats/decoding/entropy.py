"""Huffman-coded data of sequential JPEG (ITU-T T.81, annex F): finding where units begin, and copying some of them.

Importing this needs Numba, which compiles each function when it is first called.

A unit (MCU in the standard) is coded as a whole: one block of 8x8 pixels of each component, or two or four blocks of luma where
chroma is subsampled. A place is a bit offset in the entropy-coded segment, including the zero that is stuffed after each byte
255. The first coefficient of a block, DC, is coded as its difference from the previous one of the same component, the predictor.

Letters: C component, E entry point, L block of a unit, R row of units.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from spikedistill.data.formats.decoding.entry_points import DC_CATEGORIES, END_OF_BLOCK

SLACK = 4096  # bytes of padding after the data: more than a unit can take
_STUFFED = 255  # a byte after which a zero is stuffed
_COEFFICIENTS = 64
_ZEROS_ONLY = 15  # a run of sixteen zeros, without a coefficient after it
_WORD = 8  # bytes


@njit(nogil=True)  # type: ignore[untyped-decorator]
def find_entry_points(
    data: Any, length: int, lookups: Any, components: Any, grid: tuple[int, int, int], places: Any, predictors: Any
) -> bool:
    """Find where every few units begin.

    Args:
        data: uint8, the bytes without stuffed zeros, and SLACK more.
        length: of the data in bits.
        lookups: uint16 [C, 2, 65536], tables for DC and AC coefficients: from the next 16 bits to length << 8 | symbol.
        components: int64 [L], the component of each block of a unit.
        grid: rows and columns of units, and the number of units from an entry point to the next in a row.
        places: int64 [E], output: the first bit of the unit, not counting stuffed zeros; finally, the bit after the last unit.
        predictors: int64 [E, C], output: those before the unit.

    Returns:
        Whether the data consist of these units and less than a byte of padding.
    """
    rows, columns, step = grid
    now = np.zeros(lookups.shape[0], dtype=np.int64)
    bit, entry = 0, 0
    for _ in range(rows):
        for column in range(columns):
            if column % step == 0:
                places[entry] = bit
                predictors[entry] = now
                entry += 1
            for component in components:
                bit = _read_block(data, bit, lookups[component], now, component)
                if bit < 0:
                    return False
            if bit > length:
                return False
    places[entry] = bit
    predictors[entry] = now
    return length - bit < 8


@njit(nogil=True)  # type: ignore[untyped-decorator]
def copy_units(
    source: Any, spans: Any, predictors: Any, codes: Any, components: Any, added: tuple[int, bool, bool], target: Any
) -> int:
    """Copy the units between two entry points in each of some rows, and insert units that set the predictors.

    The inserted units are grey squares.

    Args:
        source: uint8, the data.
        spans: int64 [R, 2], start and end of the bits to copy in each row.
        predictors: int64 [R, 2, C], those at these places.
        codes: int64 [C, CODES]
        components: int64 [L], the component of each block of a unit.
        added: the number of units to insert before the first row; whether to insert one before each row, and after each row.
        target: uint8, output: twice as many bytes as the data, and 128 for each inserted unit.

    Returns:
        How many bytes were written, the last one padded with ones; -1 if the entry points do not match the data, or a
        difference has no code.
    """
    lead, left, right = added
    done = 0
    for row in range(len(spans)):
        if spans[row, 0] < done or spans[row, 1] < spans[row, 0] or spans[row, 1] > 8 * len(source):
            return -1
        done = spans[row, 1]
    now = np.zeros(predictors.shape[2], dtype=np.int64)
    state = (0, np.uint64(0), 0)  # bytes written; pending bits, too few for another byte; their number
    for _ in range(lead):
        state = _put_unit(state, now, predictors[0, 0], codes, components, target)
    for row in range(len(spans)):
        if left:
            state = _put_unit(state, now, predictors[row, 0], codes, components, target)
        if state[0] < 0:
            return -1
        state = _copy_bits(state, source, spans[row, 0], spans[row, 1], target)
        now[:] = predictors[row, 1]
        if right:
            wanted = predictors[row + 1, 0] if row + 1 < len(spans) else now
            state = _put_unit(state, now, wanted, codes, components, target)
    if state[0] < 0:
        return -1
    return _put(state, 0x7F, 7, target)[0]


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _read_block(data: Any, bit: int, lookups: Any, now: Any, component: int) -> int:
    """Return the first bit after a block, and update its predictor; -1 if there are bits that are not a code."""
    found = lookups[0, _peek(data, bit)]
    bit += found >> 8
    size = found & 255
    if found == 0 or size >= DC_CATEGORIES:
        return -1
    if size:
        value = _peek(data, bit) >> (16 - size)
        now[component] += value if value >> (size - 1) else value - (1 << size) + 1
        bit += size
    number = 1
    while number < _COEFFICIENTS:
        found = lookups[1, _peek(data, bit)]
        bit += (found >> 8) + (found & 15)
        zeros = (found >> 4) & 15
        if found == 0:
            return -1
        if found & 15 == 0 and zeros != _ZEROS_ONLY:
            break  # the end of the block
        number += zeros + 1
    return bit if number <= _COEFFICIENTS else -1


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _peek(data: Any, bit: int) -> Any:
    """Return the next 16 bits."""
    at = bit >> 3
    word = (np.int64(data[at]) << 16) | (np.int64(data[at + 1]) << 8) | np.int64(data[at + 2])
    return (word >> (8 - (bit & 7))) & 0xFFFF


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _put(state: Any, bits: Any, length: int, target: Any) -> Any:
    """Write up to 32 bits."""
    at, waiting, number = state
    waiting = (waiting << np.uint64(length)) | np.uint64(bits)
    number += length
    while number >= 8:
        number -= 8
        byte = (waiting >> np.uint64(number)) & np.uint64(255)
        target[at] = byte
        at += 1
        if byte == _STUFFED:
            target[at] = 0
            at += 1
    return at, waiting & np.uint64((1 << number) - 1), number


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _put_unit(state: Any, now: Any, wanted: Any, codes: Any, components: Any, target: Any) -> Any:
    """Write a unit of grey blocks that changes the predictors from `now`, which is updated, to `wanted`."""
    if state[0] < 0:
        return state
    for component in components:
        difference = wanted[component] - now[component]
        now[component] = wanted[component]
        magnitude, size = abs(difference), 0
        while magnitude >> size:
            size += 1
        if size >= DC_CATEGORIES or codes[component, size] == 0 or codes[component, END_OF_BLOCK] == 0:
            return -1, np.uint64(0), 0
        state = _put(state, codes[component, size] & 0xFFFF, codes[component, size] >> 16, target)
        state = _put(state, difference if difference >= 0 else difference + (1 << size) - 1, size, target)
        state = _put(state, codes[component, END_OF_BLOCK] & 0xFFFF, codes[component, END_OF_BLOCK] >> 16, target)
    return state


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _has_stuffed(word: Any) -> bool:
    """Return whether any of the eight bytes is 255, that is, whether any byte of the complement is 0."""
    other = ~word
    return ((other - np.uint64(0x0101010101010101)) & word & np.uint64(0x8080808080808080)) != 0


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _copy_word(source: Any, at: int, waiting: Any, number: int, target: Any, written: int) -> Any:
    """Write eight bytes after the pending bits, unless one is 255; return whether they were written, and the bits now pending."""
    word = np.uint64(0)
    for place in range(_WORD):
        word = (word << np.uint64(8)) | np.uint64(source[np.uint64(at + place)])
    out = (waiting << np.uint64(64 - number)) | (word >> np.uint64(number)) if number else word
    if _has_stuffed(word) or _has_stuffed(out):
        return False, waiting
    for place in range(_WORD):
        target[np.uint64(written + place)] = out >> np.uint64(56 - 8 * place)
    return True, word & np.uint64((1 << number) - 1)


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _copy_bits(state: Any, source: Any, start: int, end: int, target: Any) -> Any:
    """Copy bits from `start` to `end`."""
    at, last = start >> 3, end >> 3
    if at == last:
        if start == end:
            return state
        bits = (np.int64(source[at]) >> (8 - (end & 7))) & ((1 << (end - start)) - 1)
        return _put(state, bits, end - start, target)
    if start & 7:
        state = _put(state, np.int64(source[at]) & (255 >> (start & 7)), 8 - (start & 7), target)
        at += 1 if source[at] != _STUFFED else 2
    written, waiting, number = state
    shift, mask = np.uint64(number), np.uint64((1 << number) - 1)
    while at < last:
        if at + _WORD <= last:
            is_copied, after = _copy_word(source, at, waiting, number, target, written)
            if is_copied:
                waiting = after
                at += _WORD
                written += _WORD
                continue
        byte = source[at]
        at += 1 if byte != _STUFFED else 2
        waiting = (waiting << np.uint64(8)) | np.uint64(byte)
        out = (waiting >> shift) & np.uint64(255)
        waiting &= mask
        target[written] = out
        written += 1
        if out == _STUFFED:
            target[written] = 0
            written += 1
    state = (written, waiting, number)
    if at > last:
        return -1, np.uint64(0), 0
    if end & 7:
        state = _put(state, np.int64(source[last]) >> (8 - (end & 7)), end & 7, target)
    return state
