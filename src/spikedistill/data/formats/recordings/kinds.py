"""The table of formats of users' own recordings, and the function that decodes any of them to cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from spikedistill.data.formats.events import CellEvents, Truncated, decode_atis
from spikedistill.data.formats.recordings.aedat import read_aedat
from spikedistill.data.formats.recordings.columns import How, Table, cells
from spikedistill.data.formats.recordings.hdf5 import read_h5
from spikedistill.data.formats.recordings.numpy_files import read_npy, read_npz
from spikedistill.data.formats.recordings.prophesee import read_dat, read_raw
from spikedistill.data.formats.recordings.text_files import read_text_events
from spikedistill.errors import DataError

FormatName = Literal["aedat", "bin", "csv", "dat", "h5", "npy", "npz", "raw"]


class Kind(NamedTuple):
    """One format: the endings of its files, and what reads their bytes."""

    suffixes: tuple[str, ...]
    read: Callable[[bytes, str, How], Table | CellEvents]


def read_bin(content: bytes, name: str, how: How) -> CellEvents:
    """Read an ATIS .bin file, as N-MNIST and N-Caltech101 have them.

    Raises:
        DataError: if it is damaged, or the sensor, which the file does not say, is not stated.
    """
    if how.height is None or how.width is None:
        raise DataError(
            f"{name}: .bin files do not say how large the sensor is; state dataset.params.sensor, for instance {EXAMPLE}"
        )
    if how.height > 240 or how.width > 256:
        raise DataError(f"{name}: .bin files have up to 256 x 240 pixels, and the sensor is stated as {how.width} x {how.height}")
    return decode_atis(content, name, height=how.height, width=how.width, truncated=how.truncated)


EXAMPLE = "sensor: {height: 34, width: 34}"
KINDS: dict[FormatName, Kind] = {
    "aedat": Kind((".aedat", ".aedat4"), read_aedat),
    "bin": Kind((".bin",), read_bin),
    "csv": Kind((".csv", ".txt"), read_text_events),
    "dat": Kind((".dat",), read_dat),
    "h5": Kind((".h5", ".hdf5"), read_h5),
    "npy": Kind((".npy",), read_npy),
    "npz": Kind((".npz",), read_npz),
    "raw": Kind((".raw",), read_raw),
}


def decode(content: bytes, name: str, *, kind: FormatName, how: How, truncated: Truncated = "error") -> CellEvents:
    """Decode the bytes of a recording.

    Args:
        content: the file; an empty one is an error.
        name: path of the file.
        kind: its format.
        how: sensor, time unit and polarity, which must be known.
        truncated: whether a file that ends inside an event is an error, or loses that event.

    Raises:
        DataError: naming the file, if it is damaged, of another format, or does not fit what is known.
    """
    if not content:
        raise DataError(f"{name}: an empty file; get it again")
    found = KINDS[kind].read(content, name, how._replace(truncated=truncated))
    if isinstance(found, CellEvents):
        if (found.height, found.width, "us", "0/1") == (how.height, how.width, how.time_unit, how.polarity):
            return found
        found = Table(*found.unpacked(), "us", None, "0/1", found.dropped)
    return cells(found, name, how)
