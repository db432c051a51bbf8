"""Events in files of numpy: .npy (a structured array, or a table) and .npz (columns, or one such array). Never unpickles."""

from __future__ import annotations

import io
import math
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.archives import MAX_RECORDING_BYTES
from spikedistill.data.formats.files import in_units
from spikedistill.data.formats.recordings.columns import RENAME, How, Table, named, of_columns, of_fields, table_of
from spikedistill.errors import DataError

MAX_MEMBERS = 64


def read_npy(content: bytes, name: str, how: How) -> Table:
    """Read a .npy file.

    Raises:
        DataError: if it is not an array of events.
    """
    return _events(_array(content, name), name, how)


def read_npz(content: bytes, name: str, how: How) -> Table:
    """Read a .npz file: arrays t, x, y and p under one of their usual names, or one array of events.

    Rows and columns of the sensor are taken from members `height` and `width`, if it has them.

    Raises:
        DataError: if it is damaged, too large unpacked, or holds no events.
    """
    members = _members(content, name)
    known = named(members)
    if known is not None:
        columns = {letter: _unpacked(content, members[member], f"{name}/{member}") for letter, member in known[0].items()}
        return table_of(columns, known[1], _sensor(content, members, name))
    arrays = [member for member in members if member not in ("height", "width")]
    if len(arrays) != 1:
        raise DataError(
            f"{name}: expected arrays t, x, y and p, or one array of events; found {', '.join(arrays[:10])}; {RENAME}"
        )
    table = _events(_unpacked(content, members[arrays[0]], f"{name}/{arrays[0]}"), name, how)
    return table._replace(sensor=_sensor(content, members, name))


def _events(array: npt.NDArray[Any], name: str, how: How) -> Table:
    return of_fields(array, name) if array.dtype.names else of_columns(array, name, how.columns)


def _array(content: bytes, name: str) -> npt.NDArray[Any]:
    """Return the array in the bytes of a .npy file, without copying it."""
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, in_columns, dtype = read(stream)
    except Exception as err:  # damaged bytes can make the parser of the header raise anything
        raise DataError(
            f"{name}: not an array of numpy: its header cannot be read ({str(err)[:200] or type(err).__name__})"
        ) from err
    expected = math.prod(shape) * dtype.itemsize
    if dtype.hasobject:
        raise DataError(f"{name}: an array of Python objects, which would have to be unpickled; save t, x, y and p as numbers")
    if min(shape, default=0) < 0 or dtype.itemsize == 0 or len(content) - stream.tell() != expected:
        raise DataError(
            f"{name}: {len(content) - stream.tell()} bytes of values, expected {expected} for {dtype} {list(shape)}; truncated?"
        )
    array = np.frombuffer(content, dtype, offset=stream.tell(), count=math.prod(shape))
    return array.reshape(shape, order="F" if in_columns else "C")


def _members(content: bytes, name: str) -> dict[str, zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as opened:
            entries = opened.infolist()
    except Exception as err:  # a damaged directory can make the reader raise anything
        raise DataError(f"{name}: not a readable .npz file ({str(err)[:200] or type(err).__name__}); get it again") from err
    if len(entries) > MAX_MEMBERS:
        raise DataError(f"{name}: {len(entries)} arrays, more than {MAX_MEMBERS}; not a recording")
    return {entry.filename.removesuffix(".npy"): entry for entry in entries}


def _unpacked(content: bytes, entry: zipfile.ZipInfo, place: str) -> npt.NDArray[Any]:
    if entry.file_size > MAX_RECORDING_BYTES:
        raise DataError(
            f"{place}: {in_units(entry.file_size)} packed into {in_units(entry.compress_size)}; a recording has at most "
            f"{in_units(MAX_RECORDING_BYTES)}; damaged or made to fill the memory"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as opened:
            values = opened.read(entry)
    except Exception as err:  # damaged bytes can make the reader raise anything
        raise DataError(f"{place}: cannot be unpacked ({str(err)[:200] or type(err).__name__}); get the file again") from err
    return _array(values, place)


def _sensor(content: bytes, members: dict[str, zipfile.ZipInfo], name: str) -> tuple[int, int] | None:
    if not {"height", "width"} <= members.keys():
        return None
    sides = [_unpacked(content, members[member], f"{name}/{member}") for member in ("height", "width")]
    if any(side.size != 1 or side.dtype.kind not in "ui" for side in sides):
        raise DataError(f"{name}: height and width are not one whole number each")
    return int(sides[0].reshape(-1)[0]), int(sides[1].reshape(-1)[0])
