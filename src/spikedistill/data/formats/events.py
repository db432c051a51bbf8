"""Decoders of event-camera recordings: AEDAT 2.0 (DVS128), AEDAT 3.1, ATIS. Numpy only.

A decoder turns the bytes of a file into `CellEvents`: timestamps, and one small number per event for pixel and polarity, from
which frames are counted directly (`prepare.integrate`). `Events` has separate coordinates, with an upright picture and the
origin at the top left, exactly as SpikingJelly's readers return them. A damaged file is an error that names the file and the
offset of the damage.

Formats: https://docs.inivation.com/software/software-advanced-usage/file-formats (AEDAT);
https://www.garrickorchard.com/datasets/n-mnist (ATIS).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.archives import MAX_RECORDING_BYTES
from spikedistill.data.formats.files import read_file, reason
from spikedistill.errors import DataError

AEDAT2_MAGIC = b"#!AER-DAT2.0"
AEDAT3_MAGIC = b"#!AER-DAT3.1"
AEDAT3_HEADER_END = b"#!END-HEADER"
AEDAT3_PACKET_HEADER = struct.Struct("<HHIIIIII")
AEDAT3_POLARITY = 1
AEDAT3_LAST_TYPE = 13
AEDAT3_BLOCK = 1 << 19
MAX_HEADER = 64 << 10
DVS128 = 128
DVS128_CELLS = 0x7FFF
ATIS_OVERFLOW_ROW = 240
ATIS_OVERFLOW_US = 1 << 13
MAX_NOT_PIXELS_SHARE = 0.001
HALF_CLOCK = 1 << 31
TEXT = bytes([*b"\t\r", *range(0x20, 0x100)])
EMPTY = "an empty recording: no events"

IntArray = npt.NDArray[np.integer]
Truncated = Literal["error", "drop"]


class Events(NamedTuple):
    """N events in file order.

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


@dataclass(frozen=True, slots=True)
class CellEvents:
    """N events in file order, each with one number for its pixel and polarity.

    Attributes:
        t: timestamps in microseconds.
        cell: `(x * height + y) * 2 + p`; if `flipped`, with x, y and p counted from the other end.
        height: rows of the sensor.
        width: columns of the sensor.
        flipped: whether x, y and p in `cell` are counted from the other end.
        dropped: number of events left out: external triggers, addresses that the sensor does not have, and the incomplete event
            at the end of a truncated file.
        ordered: whether timestamps are known never to run backwards.
    """

    t: IntArray
    cell: IntArray
    height: int
    width: int
    flipped: bool = False
    dropped: int = 0
    ordered: bool = False

    def unpacked(self) -> Events:
        """Return coordinates and polarities instead of cells."""
        cell = self.cell.astype(np.int64)
        x, y, p = (cell >> 1) // self.height, (cell >> 1) % self.height, cell & 1
        if self.flipped:
            x, y, p = self.width - 1 - x, self.height - 1 - y, 1 - p
        return Events(self.t, x, y, p)


def read_aedat2(path: Path | str) -> Events:
    """Decode an AEDAT 2.0 recording of a DVS128 sensor (128 x 128), as CIFAR10-DVS ships it.

    Raises:
        DataError: as `decode_aedat2`, or if there are no events.
    """
    return _not_empty(decode_aedat2(read_file(path, limit=MAX_RECORDING_BYTES), str(path)), path)


def read_aedat3(path: Path | str) -> Events:
    """Decode the polarity events of an AEDAT 3.1 recording, as DVS128 Gesture ships it.

    Raises:
        DataError: as `aedat3_chunks`, or if there are no events.
    """
    try:
        with Path(path).open("rb") as stream:
            chunks = list(aedat3_chunks(stream, str(path)))
    except OSError as err:
        raise DataError(f"{path}: {reason(err)}") from err
    if not chunks:
        raise DataError(f"{path}: {EMPTY}; get the file again")
    data = np.concatenate([chunk.data for chunk in chunks]).astype(np.int64)
    t = np.concatenate([chunk.t for chunk in chunks])
    return Events(t, data >> 17, (data >> 2) & 0x7FFF, (data >> 1) & 1)


def read_atis(path: Path | str) -> Events:
    """Decode an ATIS .bin recording, as N-MNIST and N-Caltech101 ship it; overflow markers advance the clock.

    Raises:
        DataError: as `decode_atis`, for a sensor of 240 rows and 256 columns, the largest one of the format; or if there are no
            events.
    """
    content = read_file(path, limit=MAX_RECORDING_BYTES)
    return _not_empty(decode_atis(content, str(path), height=ATIS_OVERFLOW_ROW, width=256), path)


def _not_empty(recorded: CellEvents, path: Path | str) -> Events:
    if not recorded.t.size:
        raise DataError(f"{path}: {EMPTY}; get the file again")
    return recorded.unpacked()


def decode_aedat2(content: bytes, name: str, *, truncated: Truncated = "error") -> CellEvents:
    """Decode the bytes of an AEDAT 2.0 file of a DVS128.

    External triggers (address bit 15) and addresses that a DVS128 does not have (bits 16 to 31) are not pixels: if they are rare,
    they are dropped and counted. A clock that wraps around once is continued.

    Args:
        content: the file; an empty one has no events.
        name: of the file, for messages.
        truncated: whether bytes after the last whole event are an error or are dropped.

    Raises:
        DataError: if the file is not AEDAT 2.0, is truncated, or if more than 0.1 % of the events are not pixels.
    """
    start = _aedat2_header_length(name, content)
    left = (len(content) - start) % 8
    if left and truncated == "error":
        raise DataError(
            f"{name}: truncated in the last event: {left} of 8 bytes at offset {len(content) - left}; get the file again, "
            "or set truncated: drop"
        )
    count = (len(content) - start) // 8
    if not count:
        return CellEvents(np.empty(0, np.uint32), np.empty(0, np.uint16), DVS128, DVS128, flipped=True, dropped=int(bool(left)))
    halves = np.frombuffer(content, dtype=">u2", count=4 * count, offset=start).reshape(-1, 4)
    t = np.frombuffer(content, dtype=">u4", count=2 * count, offset=start)[1::2].astype(np.uint32)
    cell = halves[:, 1].astype(np.uint16)
    strange = 0
    every_bit = np.bitwise_or.reduce(np.frombuffer(content, dtype=np.uint64, count=count, offset=start)).tobytes()
    if int.from_bytes(every_bit[:4], "big") > DVS128_CELLS:
        pixels = (halves[:, 0] == 0) & (cell <= DVS128_CELLS)
        strange = count - int(np.count_nonzero(pixels))
        if strange > MAX_NOT_PIXELS_SHARE * count:
            first = int(np.argmin(pixels))
            address = (int(halves[first, 0]) << 16) | int(halves[first, 1])
            raise DataError(
                f"{name}: {strange} of {count} events are not pixels of a DVS128, the first at offset {start + 8 * first} "
                f"with address {address:#010x}; damaged or of another sensor"
            )
        t, cell = t[pixels], cell[pixels]
    back = np.flatnonzero(t[1:] < t[:-1])
    dropped = strange + bool(left)
    return CellEvents(_unwrapped(t, back), cell, DVS128, DVS128, flipped=True, dropped=dropped, ordered=not back.size)


def _aedat2_header_length(name: str, content: bytes) -> int:
    if content and not content.startswith(AEDAT2_MAGIC):
        if content.startswith(b"#!AER-DAT"):
            raise DataError(f"{name}: expected AEDAT 2.0, found {content[2:12].decode('ascii', 'replace')}")
        raise DataError(f"{name}: not AEDAT 2.0: its first bytes are {content[:12]!r}")
    position = 0
    while content[position : position + 1] == b"#":
        end = content.find(b"\n", position, position + MAX_HEADER)
        line = content[position : end if end >= 0 else position + 80]
        if not _is_text(line):
            raise DataError(
                f"{name}: neither a header line nor an event of a DVS128 at offset {position} (address {line[:4].hex()}); damaged"
            )
        if end < 0:
            raise DataError(f"{name}: a header line at offset {position} has no end; get the file again")
        position = end + 1
    return position


def _is_text(line: bytes) -> bool:
    return not line.translate(None, delete=TEXT)


def _unwrapped(t: IntArray, back: npt.NDArray[np.intp]) -> IntArray:
    """Continue 32-bit timestamps whose clock wrapped around once; return others unchanged.

    Args:
        t: the timestamps.
        back: indices after which they run backwards.
    """
    if back.size != 1 or int(t[back[0]]) - int(t[back[0] + 1]) <= HALF_CLOCK:
        return t
    whole = t.astype(np.int64)
    whole[back[0] + 1 :] += 1 << 32
    return whole if int(np.diff(whole).max()) < HALF_CLOCK else t


def write_aedat2(path: Path, events: Events) -> None:
    """Write an AEDAT 2.0 recording in the address layout of a DVS128; the inverse of `read_aedat2`."""
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


class Aedat3Chunk(NamedTuple):
    """Polarity events of consecutive packets.

    Attributes:
        t: timestamps in microseconds, int64 [N].
        data: uint32 [N]: bit 0 valid, bit 1 polarity, bits 2-16 row, bits 17-31 column.
    """

    t: npt.NDArray[np.int64]
    data: npt.NDArray[np.uint32]


def aedat3_chunks(stream: BinaryIO, name: str, *, truncated: Truncated = "error") -> Iterator[Aedat3Chunk]:
    """Decode an AEDAT 3.1 stream in pieces of half a megabyte.

    Only the first `number` events of a packet are read; its unused capacity is skipped. Events among these that are marked
    invalid are kept, as SpikingJelly keeps them.

    Args:
        stream: the file, at its beginning.
        name: of the file, for messages.
        truncated: whether a truncated last packet is an error, or its whole events are used.

    Yields:
        The polarity events, in order; packets of other types are skipped.

    Raises:
        DataError: if the file is not AEDAT 3.1, is truncated, or has an impossible packet header.
    """
    pending = _aedat3_after_header(stream, name)
    offset = stream.tell() - len(pending)
    size = _size_of(stream)
    number = 0
    wanted = 0
    while True:
        block = stream.read(max(AEDAT3_BLOCK, min(wanted, size)))
        content = pending + block if pending else block
        packets: list[tuple[int, int, int]] = []
        position, number, wanted = _scan_packets(content, packets, _Place(name, offset, number))
        if chunk := _joined(content, packets):
            yield chunk
        pending, offset = content[position:], offset + position
        if not block:
            break
    if pending and (rest := _cut_packet(pending, _Place(name, offset, number), truncated)):
        yield rest


def _size_of(stream: BinaryIO) -> int:
    here = stream.tell()
    size = stream.seek(0, io.SEEK_END)
    stream.seek(here)
    return size


class _Place(NamedTuple):
    """Position of the decoder in a stream: file, offset of the bytes at hand, number of their first packet."""

    name: str
    offset: int
    packet: int


def _aedat3_after_header(stream: BinaryIO, name: str) -> bytes:
    """Read the header; return the bytes that were read beyond it."""
    content = stream.read(MAX_HEADER)
    if not content:
        raise DataError(f"{name}: an empty file; get it again")
    if not content.startswith(AEDAT3_MAGIC):
        if content.startswith(b"#!AER-DAT"):
            raise DataError(f"{name}: expected AEDAT 3.1, found {content[2:12].decode('ascii', 'replace')}")
        raise DataError(f"{name}: not AEDAT 3.1: its first bytes are {content[:12]!r}")
    for line in io.BytesIO(content):
        if line.rstrip(b"\r\n") == AEDAT3_HEADER_END:
            return content[content.find(line) + len(line) :]
        if not line.startswith(b"#") or not _is_text(line.rstrip(b"\n")):
            break
    raise DataError(f"{name}: its header has no end ({AEDAT3_HEADER_END.decode()}); damaged")


def _scan_packets(content: bytes, packets: list[tuple[int, int, int]], place: _Place) -> tuple[int, int, int]:
    """Append the whole polarity packets in `content` to `packets`: (start of the events, their number, timestamp overflow).

    Returns:
        End of the last whole packet, number of the next packet, and the bytes that it needs (0 if unknown).
    """
    position, number = 0, place.packet
    while len(content) - position >= AEDAT3_PACKET_HEADER.size:
        kind, _, size, ts_offset, overflow, capacity, used, valid = AEDAT3_PACKET_HEADER.unpack_from(content, position)
        polarity = kind == AEDAT3_POLARITY
        if kind > AEDAT3_LAST_TYPE or not valid <= used <= capacity or (polarity and (size, ts_offset) != (8, 4)):
            raise DataError(f"{place.name}: no packet header at offset {place.offset + position} (packet {number}); damaged")
        needed = AEDAT3_PACKET_HEADER.size + capacity * size
        if len(content) - position < needed:
            return position, number, needed
        if polarity and used:
            packets.append((position + AEDAT3_PACKET_HEADER.size, used, overflow))
        position += needed
        number += 1
    return position, number, 0


def _joined(content: bytes, packets: list[tuple[int, int, int]]) -> Aedat3Chunk | None:
    if not packets:
        return None
    view = memoryview(content)
    words = np.frombuffer(b"".join([view[at : at + 8 * count] for at, count, _ in packets]), dtype="<u4").reshape(-1, 2)
    t = words[:, 1].astype(np.int64)
    if any(overflow for _, _, overflow in packets):
        t |= np.repeat([overflow << 31 for _, _, overflow in packets], [count for _, count, _ in packets])
    return Aedat3Chunk(t, words[:, 0].astype(np.uint32))


def _cut_packet(content: bytes, place: _Place, truncated: Truncated) -> Aedat3Chunk | None:
    """Return the whole events of the truncated last packet."""
    header = AEDAT3_PACKET_HEADER.size
    if truncated == "error":
        if len(content) < header:
            at = f"in the header of packet {place.packet}: {len(content)} of {header} bytes"
        else:
            _, _, size, _, _, capacity, _, _ = AEDAT3_PACKET_HEADER.unpack_from(content)
            at = f"in packet {place.packet}: {len(content) - header} of {capacity * size} bytes"
        raise DataError(f"{place.name}: truncated {at} at offset {place.offset}; get the file again, or set truncated: drop")
    if len(content) < header:
        return None
    kind, _, _, _, overflow, _, used, _ = AEDAT3_PACKET_HEADER.unpack_from(content)
    whole = min(used, (len(content) - header) // 8)
    return _joined(content, [(header, whole, overflow)] if kind == AEDAT3_POLARITY and whole else [])


def dvs128_cells(chunk: Aedat3Chunk, name: str) -> npt.NDArray[np.uint16]:
    """Return the cells (see `CellEvents`) of AEDAT 3.1 events of a DVS128.

    Raises:
        DataError: if an event lies outside the 128 x 128 pixels.
    """
    data = chunk.data
    if int(np.bitwise_or.reduce(data)) & 0xFF01FE00:
        first = int(np.flatnonzero(data & np.uint32(0xFF01FE00))[0])
        column, row = int(data[first]) >> 17, (int(data[first]) >> 2) & 0x7FFF
        raise DataError(f"{name}: the event at {chunk.t[first]} us lies at x={column}, y={row}, outside a DVS128; damaged")
    return (((data >> 9) & 0x7F00) | ((data >> 1) & 0xFF)).astype(np.uint16)


def decode_atis(content: bytes, name: str, *, height: int, width: int, truncated: Truncated = "error") -> CellEvents:
    """Decode the bytes of an ATIS .bin file. Its overflow markers (row 240) advance the clock by 8192 us each.

    Args:
        content: the file.
        name: of the file, for messages.
        height: rows of the sensor.
        width: columns of the sensor.
        truncated: whether bytes after the last whole event are an error or are dropped.

    Raises:
        DataError: if the file is not a whole number of 5-byte events, or has events outside the sensor.
    """
    left = len(content) % 5
    if left and truncated == "error":
        raise DataError(
            f"{name}: {len(content)} bytes are not a whole number of 5-byte events: truncated at offset {len(content) - left}; "
            "get the file again, or set truncated: drop"
        )
    if len(content) < 5:
        return CellEvents(np.empty(0, np.int32), np.empty(0, np.int32), height, width, dropped=int(bool(left)))
    raw = np.frombuffer(content, dtype=np.uint8, count=len(content) - left).reshape(-1, 5)
    x, y, high, middle, low = np.ascontiguousarray(raw.T)
    t = ((high & 0x7F).astype(np.int32) << 16) | (middle.astype(np.int32) << 8) | low
    if int(y.max()) >= height or int(x.max()) >= width:
        marker = y == ATIS_OVERFLOW_ROW
        t = (t + ATIS_OVERFLOW_US * np.cumsum(marker))[~marker]
        at = np.flatnonzero(~marker)
        x, y, high = x[at], y[at], high[at]
        outside = (y >= height) | (x >= width)
        if outside.any():
            first = int(np.argmax(outside))
            raise DataError(
                f"{name}: {np.count_nonzero(outside)} events lie outside the {width} x {height} sensor, the first at "
                f"offset {5 * int(at[first])} with x={x[first]}, y={y[first]}; damaged or of another sensor"
            )
    cell = x.astype(np.int32) * (2 * height) + (y.astype(np.int32) << 1 | (high >> 7))
    return CellEvents(t, cell, height, width, dropped=int(bool(left)))


def write_atis(path: Path, events: Events) -> None:
    """Write an ATIS .bin recording, 5 bytes an event; the inverse of `read_atis` for times below 2**23 us and rows below 240."""
    words = np.empty((len(events.t), 5), dtype=np.uint8)
    words[:, 0], words[:, 1] = events.x, events.y
    words[:, 2] = events.p << 7 | events.t >> 16
    words[:, 3], words[:, 4] = events.t >> 8 & 0xFF, events.t & 0xFF
    path.write_bytes(words.tobytes())
