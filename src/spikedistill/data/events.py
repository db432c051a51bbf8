"""Decoders of event-camera recordings: AEDAT 2.0 (DVS128), AEDAT 3.1, ATIS. Numpy only.

Every decoder returns `Events` with the picture upright and its origin at the top left, exactly as SpikingJelly's readers
do, and refuses a damaged file with its name and the byte where the damage was seen.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spikedistill.errors import DataError

AEDAT2_MAGIC = b"#!AER-DAT2.0"
AEDAT3_MAGIC = b"#!AER-DAT3.1"
AEDAT3_HEADER_END = b"#!END-HEADER\r\n"
AEDAT3_PACKET_HEADER = struct.Struct("<HHIIIIII")
AEDAT3_POLARITY = 1
ATIS_OVERFLOW_ROW = 240
ATIS_OVERFLOW_US = 1 << 13
MAX_EXTERNAL_SHARE = 0.001

IntArray = npt.NDArray[np.integer]


class Events(NamedTuple):
    """Events in file order, N of each.

    Attributes:
        t: timestamps in microseconds.
        x: columns, 0 at the left.
        y: rows, 0 at the top.
        p: polarity, 0 OFF or 1 ON.
    """

    t: IntArray
    x: IntArray
    y: IntArray
    p: IntArray


def read_aedat2(path: Path | str) -> Events:
    """Decode an AEDAT 2.0 recording of a DVS128 sensor (128 x 128), as CIFAR10-DVS ships it.

    Events of the external trigger (address bit 15) are not pixels and are left out.

    Raises:
        DataError: if the file is not AEDAT 2.0, empty, cut, or has addresses that a DVS128 cannot send.
    """
    path = Path(path)
    content = _read(path)
    body = content[_aedat2_header_length(path, content) :]
    if not body:
        raise DataError(f"{path}: an empty recording: a header and no events")
    if len(body) % 8:
        offset = len(content) - len(body) % 8
        raise DataError(f"{path}: cut in the last event: {len(body) % 8} of 8 bytes at offset {offset}; get the file again")
    words = np.frombuffer(body, dtype=">u4").reshape(-1, 2)
    address, t = words[:, 0].astype(np.uint32), words[:, 1]
    if (high := np.flatnonzero(address >> 16)).size:
        offset = len(content) - len(body) + 8 * int(high[0])
        raise DataError(
            f"{path}: address {address[high[0]]:#010x} at offset {offset} is not of a DVS128; damaged or another sensor"
        )
    external = (address & 0x8000) != 0
    if external.any():
        if external.mean() > MAX_EXTERNAL_SHARE:
            raise DataError(f"{path}: {external.sum()} of {len(address)} events are external triggers; damaged or another sensor")
        address, t = address[~external], t[~external]
    return Events(t, 127 - ((address >> 8) & 0x7F), 127 - ((address >> 1) & 0x7F), (1 - (address & 1)).astype(np.int64))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        raise DataError(f"{path}: {err.strerror}") from err


def _aedat2_header_length(path: Path, content: bytes) -> int:
    if not content:
        raise DataError(f"{path}: an empty file; get it again")
    if not content.startswith(AEDAT2_MAGIC):
        if content.startswith(b"#!AER-DAT"):
            raise DataError(f"{path}: expected AEDAT 2.0, found {content[2:12].decode('ascii', 'replace')}")
        raise DataError(f"{path}: not AEDAT 2.0: its first bytes are {content[:12]!r}")
    position = 0
    while content[position : position + 1] == b"#":
        end = content.find(b"\n", position)
        if end < 0:
            raise DataError(f"{path}: a header line at offset {position} has no end; get the file again")
        position = end + 1
    return position


def write_aedat2(path: Path, events: Events) -> None:
    """Write an AEDAT 2.0 recording in the address layout of a DVS128; the opposite of `read_aedat2`."""
    words = np.empty((len(events.t), 2), dtype=">u4")
    words[:, 0] = ((127 - events.x) << 8) | ((127 - events.y) << 1) | (1 - events.p)
    words[:, 1] = events.t
    header = (
        b"#!AER-DAT2.0\r\n"
        b"# Simulated; addresses as of a DVS128\r\n"
        b"# Data format is int32 address, int32 timestamp (8 bytes total), repeated for each event\r\n"
        b"# Timestamps tick is 1 us\r\n"
    )
    path.write_bytes(header + words.tobytes())


def read_aedat3(path: Path | str) -> Events:
    """Decode the polarity events of an AEDAT 3.1 recording, as DVS128 Gesture ships it.

    Raises:
        DataError: if the file is not AEDAT 3.1, or is cut inside a packet.
    """
    path = Path(path)
    content = _read(path)
    if not content.startswith(AEDAT3_MAGIC):
        raise DataError(f"{path}: not AEDAT 3.1: its first bytes are {content[:12]!r}")
    start = content.find(AEDAT3_HEADER_END)
    if start < 0:
        raise DataError(f"{path}: no end of the header ({AEDAT3_HEADER_END!r}); damaged")
    packets = list(_aedat3_packets(path, content, start + len(AEDAT3_HEADER_END)))
    data = np.concatenate([d for d, _ in packets]) if packets else np.empty(0, np.uint32)
    t = np.concatenate([t for _, t in packets]) if packets else np.empty(0, np.int64)
    data = data.astype(np.int64)
    return Events(t, (data >> 17) & 0x7FFF, (data >> 2) & 0x7FFF, (data >> 1) & 1)


def _aedat3_packets(path: Path, content: bytes, position: int) -> Iterator[tuple[IntArray, IntArray]]:
    number = 0
    while position < len(content):
        if len(content) - position < AEDAT3_PACKET_HEADER.size:
            raise DataError(f"{path}: cut in the header of packet {number} at offset {position}; get the file again")
        kind, _, size, _, overflow, capacity, _, _ = AEDAT3_PACKET_HEADER.unpack_from(content, position)
        position += AEDAT3_PACKET_HEADER.size
        length = capacity * size
        if position + length > len(content):
            raise DataError(f"{path}: cut in packet {number}: {len(content) - position} of {length} bytes at offset {position}")
        if kind == AEDAT3_POLARITY:
            if size != 8:
                raise DataError(f"{path}: polarity events of {size} bytes in packet {number}, expected 8; damaged")
            words = np.frombuffer(content, dtype="<u4", count=2 * capacity, offset=position).reshape(-1, 2)
            yield words[:, 0], words[:, 1].astype(np.int64) | (int(overflow) << 31)
        position += length
        number += 1


def read_atis(path: Path | str) -> Events:
    """Decode an ATIS .bin recording, as N-MNIST and N-Caltech101 ship it; overflow markers advance the clock.

    Raises:
        DataError: if the size is not a whole number of 5-byte events.
    """
    path = Path(path)
    content = _read(path)
    if len(content) % 5:
        raise DataError(f"{path}: {len(content)} bytes are not a whole number of 5-byte events; get the file again")
    raw = np.frombuffer(content, dtype=np.uint8).reshape(-1, 5).astype(np.int64)
    t = ((raw[:, 2] & 0x7F) << 16) | (raw[:, 3] << 8) | raw[:, 4]
    marker = raw[:, 1] == ATIS_OVERFLOW_ROW
    t = t + ATIS_OVERFLOW_US * np.cumsum(marker)
    keep = ~marker
    return Events(t[keep], raw[keep, 0], raw[keep, 1], raw[keep, 2] >> 7)
