"""The file of a memory-mapped array, read row by row with preadv. Numpy only.

A page fault reads one small part of the file while its thread waits, and a file that was cut ends the process by SIGBUS. preadv
reads whole rows, as many at a time as there are threads, and a file that was cut, or whose disk fails, is an error.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import resource
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.files import reason
from spikedistill.errors import DataError

_PROBES = 64  # rows that are touched to see whether they are in memory
_CUT = "it was cut after it was opened; run `spikedistill verify`, then the preprocess stage again"


class ArrayFile:
    """A file that stays open, so that a file of the same name that replaces it is never mixed into a run.

    Attributes:
        shape: of the rows as vectors, (N, values of a row).
        dtype: of the values.
        row_bytes: size of a row.
    """

    @classmethod
    def of(cls, samples: npt.NDArray[Any]) -> ArrayFile | None:
        """Open the file of a memory-mapped array; None for any other array, and for a part of one.

        Raises:
            DataError: if it cannot be opened, or is shorter than its map.
        """
        if isinstance(samples, np.memmap) and samples.filename is not None and isinstance(samples.base, mmap.mmap):
            return cls(samples)
        return None

    def __init__(self, samples: np.memmap[Any, Any]) -> None:
        """Open the file of a whole memory map; see `of`."""
        assert samples.filename is not None
        self._map = samples
        self._path, self._offset = os.fspath(samples.filename), samples.offset
        self.dtype, self.shape = samples.dtype, (len(samples), samples[0].size)
        self.row_bytes = samples[0].nbytes
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as err:
            raise DataError(f"{self._path}: {reason(err)}") from err
        weakref.finalize(self, os.close, self._descriptor)
        self._check_size()
        with contextlib.suppress(OSError):  # it is only advice: read what is asked for, and nothing after it
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_RANDOM)

    def _check_size(self) -> None:
        """Raise a DataError if the file is shorter than its map: touching the missing part would kill the process."""
        size, end = os.fstat(self._descriptor).st_size, self._offset + self._map.nbytes
        if size < end:
            raise DataError(f"{self._path}: {size} bytes, expected {end}: {_CUT}")

    def read(self, first: int, rows: Sequence[memoryview]) -> None:
        """Read consecutive rows.

        Args:
            first: number of the first.
            rows: memory for each row, in bytes.

        Raises:
            DataError: if they cannot be read, or the file ends before them.
        """
        offset, left = self._offset + first * self.row_bytes, list(rows)
        while left:
            try:
                count = os.preadv(self._descriptor, left, offset)
            except OSError as err:
                raise DataError(f"{self._path}: rows from {first} on cannot be read: {reason(err)}") from err
            if not count:
                size = os.fstat(self._descriptor).st_size
                raise DataError(f"{self._path}: {size} bytes, which end before row {first + len(rows) - 1} does: {_CUT}")
            offset += count
            left = _without(left, count)

    def is_cached(self, rows: npt.NDArray[np.int64]) -> bool:
        """Return whether some rows, spread over those given, are all in memory, so that touching them waits for no disk.

        The kernel counts the page faults of each thread that had to read from a disk. What it says about a file without
        touching it (mincore) is true only for the owner of the file.

        Raises:
            DataError: if the file is shorter than its map.
        """
        self._check_size()
        places = np.linspace(0, len(rows) - 1, min(_PROBES, len(rows))).astype(np.int64)
        before = _faults()
        for row in rows[places]:
            self._map[row].flat[self.shape[1] // 2]
            if _faults() != before:
                return False
        return True


def _without(buffers: Sequence[memoryview], count: int) -> list[memoryview]:
    """Return what is left of some buffers without their first `count` bytes."""
    for number, buffer in enumerate(buffers):
        if count < len(buffer):
            return [buffer[count:], *buffers[number + 1 :]]
        count -= len(buffer)
    return []


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_majflt
