"""AEDAT 2.0, 3.1 and 4 recordings, told apart by their first bytes. AEDAT 4 is read by the library `aedat` (MIT)."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np

from spikedistill.data.formats.archives import MAX_RECORDING_BYTES
from spikedistill.data.formats.events import AEDAT2_MAGIC, DVS128, CellEvents, aedat3_chunks, decode_aedat2
from spikedistill.data.formats.files import in_units
from spikedistill.data.formats.recordings.columns import How, Table
from spikedistill.data.formats.recordings.guarded import guarded
from spikedistill.errors import DataError

AEDAT4_MAGIC = b"#!AER-DAT4.0\r\n"
SENSORS = {
    "DVS128": (DVS128, DVS128),
    "DAVIS128": (128, 128),
    "DAVIS240": (180, 240),
    "DAVIS346": (260, 346),
    "DAVIS640": (480, 640),
}
"""Rows and columns of the sensors that headers of AEDAT 3.1 name."""
_SOURCE = re.compile(rb"#\s*Source\s+\d+:\s*([A-Za-z]+\d+)")


def read_aedat(content: bytes, name: str, how: How) -> Table | CellEvents:
    """Read an AEDAT file, whatever its version.

    Raises:
        DataError: if it is damaged, or of another version.
    """
    if content.startswith(AEDAT4_MAGIC):
        library = _library(name)
        return guarded(lambda: _read_aedat4(name, library), name, len(content))
    if not content.startswith(b"#!AER-DAT3"):
        if content.startswith(b"#!AER-DAT") and not content.startswith(AEDAT2_MAGIC):
            raise DataError(
                f"{name}: expected AEDAT 2.0, 3.1 or 4.0, found {content[2:12].decode('ascii', 'replace')}; convert it"
            )
        return decode_aedat2(content, name, truncated=how.truncated)
    chunks = list(aedat3_chunks(io.BytesIO(content), name, truncated=how.truncated))
    t = np.concatenate([chunk.t for chunk in chunks]) if chunks else np.empty(0, np.int64)
    data = np.concatenate([chunk.data for chunk in chunks]) if chunks else np.empty(0, np.uint32)
    source = _SOURCE.search(content[: 1 << 12])
    sensor = SENSORS.get(source[1].decode().upper()) if source else None
    return Table(t, data >> 17, (data >> 2) & 0x7FFF, (data >> 1) & 1, "us", sensor, "0/1")


def _library(name: str) -> Any:
    try:
        import aedat
    except ImportError as err:
        raise DataError(f"{name}: reading AEDAT 4 needs the library aedat; pip install 'spikedistill[events]'") from err
    return aedat


def _read_aedat4(name: str, aedat: Any) -> Table:
    """Read an AEDAT 4 file from the disk, where the library opens it."""
    try:
        decoder = aedat.Decoder(name)
        streams = {number: stream for number, stream in decoder.id_to_stream().items() if stream.get("type") == "events"}
        packets = _packets(decoder, name, set(streams)) if len(streams) == 1 else []
    except (DataError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as err:  # damaged bytes can make the library raise anything, even what is not an Exception
        raise DataError(f"{name}: not AEDAT 4 that can be read ({str(err)[:200] or type(err).__name__}); get it again") from err
    if len(streams) != 1:
        raise DataError(f"{name}: {len(streams)} streams of events, expected one; export that of one camera")
    [stream] = streams.values()
    events = np.concatenate(packets) if packets else np.empty(0, [("t", "u8"), ("x", "u2"), ("y", "u2"), ("on", "?")])
    return Table(events["t"], events["x"], events["y"], events["on"], "us", (stream["height"], stream["width"]), "0/1")


def _packets(decoder: Any, name: str, wanted: set[int]) -> list[np.ndarray]:
    found, total = [], 0
    for packet in decoder:
        if packet.get("stream_id") not in wanted or "events" not in packet:
            continue
        found.append(packet["events"])
        total += found[-1].nbytes
        if total > MAX_RECORDING_BYTES:
            raise DataError(
                f"{name}: unpacks to more than {in_units(MAX_RECORDING_BYTES)}; longer than a recording of one sample is"
            )
    return found
