"""Headers of JPEG files (ITU-T T.81, annex B), as far as decoding has to know them. Standard library only."""

from __future__ import annotations

from typing import NamedTuple

_SOI, EOI = b"\xff\xd8", b"\xff\xd9"
_SOS, _TEM = 0xDA, 0x01
_STANDALONE = frozenset({_TEM, 0xD8, 0xD9, *range(0xD0, 0xD8)})  # markers without a segment
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = frozenset({0xC0, 0xC1})  # Huffman-coded, not progressive
_HUFFMAN = _SEQUENTIAL | {0xC2}
_BLOCK = 8  # side of a block in pixels

ENTRY_POINTS = b"spikedistill entry points\0"
"""The beginning of an APP7 segment that `entry_points.py` wrote."""
APP7 = 0xE7

SUBSAMPLINGS = {
    (0x11,): "grey",
    (0x11, 0x11, 0x11): "444",
    (0x21, 0x11, 0x11): "422",
    (0x22, 0x11, 0x11): "420",
}
"""Sampling factors of the components (horizontal, vertical: one digit each) that are known here, and what they are called."""


class Header(NamedTuple):
    """What the header of a JPEG says.

    Attributes:
        height: in pixels.
        width: in pixels.
        subsampling: one of the values of SUBSAMPLINGS.
        cuttable: whether its first rows can be decoded without the data of the others.
        height_at: offset of the height in the file.
        scan_at: offset of the header of the first scan.
        data_at: offset of the compressed data.
        unit_rows: height of a unit (MCU) in pixels, which is coded as a whole.
        unit_columns: its width.
        entry_points: where the segment with entry points begins and ends, just before the first scan; None if there is none.
    """

    height: int
    width: int
    subsampling: str
    cuttable: bool
    height_at: int
    scan_at: int
    data_at: int
    unit_rows: int
    unit_columns: int
    entry_points: tuple[int, int] | None


def read_header(content: bytes) -> Header | None:
    """Return what the header says; None if this is not a usual JPEG: 8 bits, Huffman-coded, grey or of three components."""
    if content[:2] != _SOI:
        return None
    frame: tuple[int, int] | None = None
    entry_points: tuple[int, int] | None = None
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker in _STANDALONE or marker in (0x00, 0xFF):  # padding, or what no usual encoder writes
            return None
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        if marker == _SOS:
            return _header(content, *frame, at, entry_points) if frame else None
        if marker in _FRAMES:
            if frame is not None:
                return None
            frame = (marker, at)
        if marker == APP7 and content.startswith(ENTRY_POINTS, at + 4):
            entry_points = at, at + 2 + length
        at += 2 + length
    return None


def _header(content: bytes, kind: int, frame_at: int, scan_at: int, entry_points: tuple[int, int] | None) -> Header | None:
    """Return what the segments of the frame and of its first scan say together."""
    frame = content[frame_at + 4 : frame_at + 2 + int.from_bytes(content[frame_at + 2 : frame_at + 4], "big")]
    if kind not in _HUFFMAN or len(frame) < 6 or len(frame) != 6 + 3 * frame[5] or frame[0] != 8:
        return None
    subsampling = SUBSAMPLINGS.get(tuple(frame[7::3]))
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    if subsampling is None or not height or not width:
        return None
    in_one_scan = content[scan_at + 4] == frame[5] if scan_at + 4 < len(content) else False
    across, down = (frame[7] >> 4, frame[7] & 15) if frame[5] > 1 else (1, 1)
    return Header(
        height,
        width,
        subsampling,
        cuttable=kind in _SEQUENTIAL and in_one_scan,
        height_at=frame_at + 5,
        scan_at=scan_at,
        data_at=scan_at + 2 + int.from_bytes(content[scan_at + 2 : scan_at + 4], "big"),
        unit_rows=_BLOCK * down,
        unit_columns=_BLOCK * across,
        entry_points=entry_points if entry_points is not None and entry_points[1] == scan_at else None,
    )


def is_complete(content: bytes, header: Header) -> bool:
    """Return whether the compressed data have an end marker, whose two bytes mean nothing else there."""
    return content.rfind(EOI, header.data_at) >= 0
