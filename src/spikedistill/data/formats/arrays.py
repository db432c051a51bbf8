"""Array files (.npy) of prepared datasets: created with zeros, filled row by row in place, checked when opened. Numpy only.

Rows are written with pwrite, not through a memory map, because a full disk kills a process that writes through a map.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.files import check_free_space, in_units, is_disk_full, reason, reserve
from spikedistill.errors import DataError

HEADER_BYTES = 128  # of a .npy file of any shape used here
_KINDS = "uifb"  # dtype kinds of numbers: integers, floats, booleans


def create_array(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], what: str) -> None:
    """Create an array file of zeros, with its space reserved where the file system can do so.

    Raises:
        DataError: if the disk, or the user's share of it, lacks space for it; `what` names its content.
    """
    needed = math.prod(shape) * dtype.itemsize
    check_free_space(path.parent, needed, what)
    try:
        with path.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, {"descr": dtype.str, "fortran_order": False, "shape": shape})
            assert stream.tell() == HEADER_BYTES
            stream.flush()
            reserve(stream.fileno(), HEADER_BYTES + needed)
            stream.truncate(HEADER_BYTES + needed)
    except OSError as err:
        path.unlink(missing_ok=True)
        raise DataError(f"{path.parent}: {in_units(needed)} needed for the {what}: {reason(err)}") from err


def write_row(descriptor: int, row: npt.NDArray[Any], number: int, path: Path) -> None:
    """Write one row of an array file.

    Args:
        descriptor: of the opened file.
        row: its values.
        number: of the row.
        path: the file, for messages.

    Raises:
        DataError: if it cannot be written: the disk is full, for instance.
    """
    left, offset = np.ascontiguousarray(row).data.cast("B"), HEADER_BYTES + number * row.nbytes
    try:
        while left:
            written = os.pwrite(descriptor, left, offset)
            if not written:
                raise DataError(f"{path}: the disk takes no more at row {number}; make room, or use another disk")
            left, offset = left[written:], offset + written
    except OSError as err:
        free = f" ({_free(path)} bytes free)" if is_disk_full(err) else ""
        raise DataError(f"{path}: row {number} cannot be written{free}: {reason(err)}") from err


def _free(path: Path) -> int:
    found = os.statvfs(path.parent)
    return found.f_bavail * found.f_frsize


def flush(descriptor: int, path: Path) -> None:
    """Wait until an array file is on the disk; a network disk may only now say that it is full.

    Raises:
        DataError: if it cannot be written.
    """
    try:
        os.fsync(descriptor)
    except OSError as err:
        raise DataError(f"{path}: cannot be written: {reason(err)}") from err


def open_array(path: Path) -> npt.NDArray[Any]:
    """Open an array file as a read-only memory map.

    Raises:
        DataError: if it cannot be read, is not an array of numbers in C order, or has another size than its header says.
    """
    try:
        with path.open("rb") as stream:
            shape, in_columns, dtype = _header(stream)
            start, size = stream.tell(), os.fstat(stream.fileno()).st_size
    except OSError as err:
        raise DataError(f"{path}: {reason(err)}") from err
    except Exception as err:  # damaged bytes can make the parser of the header raise anything
        raise DataError(f"{path}: not an array of numpy: its header cannot be read ({err!r})") from err
    if in_columns or dtype.kind not in _KINDS or dtype.hasobject or not shape or min(shape) < 0:
        raise DataError(f"{path}: expected an array of numbers in C order, found {dtype} {shape}")
    expected = start + math.prod(shape) * dtype.itemsize
    if size != expected or start == expected:
        raise DataError(f"{path}: {size} bytes, expected {expected} for {dtype} {shape}")
    return np.memmap(path, dtype=dtype, mode="r", offset=start, shape=shape)


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"version {version}")
