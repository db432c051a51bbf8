"""The files that blocks of rows are written to: one array in place, or a file for each block. Numpy only.

Several processes write to a target, at least those of one node, so each opens a file or inherits it. Each block has a checksum of
what was written, which can be computed again from the disk.
"""

from __future__ import annotations

import contextlib
import math
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.arrays import HEADER_BYTES, create_array, flush, write_row
from spikedistill.data.formats.files import check_free_space
from spikedistill.data.formats.isal_zlib import crc32

APART_BYTES = 1 << 16  # no file system shares larger pages


class Writer(Protocol):
    """Takes the rows of one block."""

    def write(self, row: int, values: npt.NDArray[Any] | bytes, checksum: int | None = None) -> None:
        """Write one row, each of the block once; `checksum`: its CRC-32 if that is known already."""

    def checksum(self) -> int:
        """Return the checksum of the rows that were written."""


class Target(Protocol):
    """What the blocks are written to."""

    def create(self) -> None:
        """Make room for all of it, empty, in place of what is there; raise a DataError if the disk lacks space."""

    def check_space(self) -> None:
        """Raise a DataError if the disk lacks space for what an earlier run has not written."""

    def exists(self) -> bool:
        """Return whether it was created."""

    def writing(self, block: int, rows: range) -> contextlib.AbstractContextManager[Writer]:
        """Return a context manager that writes a block anew."""

    def sync(self, blocks: Iterable[int]) -> None:
        """Wait until blocks are on the disk."""

    def checksum(self, block: int, rows: range) -> int:
        """Return the checksum of a block as it is on the disk."""

    def gap(self, rows: int) -> int:
        """Return how many blocks of `rows` rows have to lie between those that two nodes write at the same time."""


class ArrayTarget:
    """One array file, whose rows are written in place."""

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], what: str) -> None:
        """Describe the array.

        Args:
            path: the file.
            dtype: of its values.
            shape: of the whole array.
            what: its content, for messages.
        """
        self.path = path
        self._dtype, self._shape, self._what = dtype, shape, what
        self._row_bytes = math.prod(shape[1:]) * dtype.itemsize

    def check_space(self) -> None:
        """Check that the disk has space for what is not there yet.

        Raises:
            DataError: if it lacks space.
        """
        needed = math.prod(self._shape) * self._dtype.itemsize
        check_free_space(self.path.parent, needed - allocated([self.path]), self._what)

    def create(self) -> None:
        """Make an array of zeros.

        Raises:
            DataError: if the disk lacks space for it.
        """
        create_array(self.path, self._dtype, self._shape, self._what)

    def exists(self) -> bool:
        """Return whether there is a file of that size."""
        with contextlib.suppress(FileNotFoundError):
            return self.path.stat().st_size == HEADER_BYTES + math.prod(self._shape) * self._dtype.itemsize
        return False

    @contextlib.contextmanager
    def writing(self, block: int, rows: range) -> Iterator[_RowWriter]:
        """Write the rows of a block in place."""
        with self.path.open("r+b", buffering=0) as stream:
            yield _RowWriter(stream.fileno(), self.path, rows)

    def sync(self, blocks: Iterable[int]) -> None:
        """Wait until the array is on the disk.

        Raises:
            DataError: if it cannot be written.
        """
        with self.path.open("rb", buffering=0) as stream:
            flush(stream.fileno(), self.path)

    def checksum(self, block: int, rows: range) -> int:
        """Return the checksum of a block as it is on the disk.

        Raises:
            OSError: if it cannot be read.
        """
        with self.path.open("rb", buffering=0) as stream:
            start = HEADER_BYTES + rows.start * self._row_bytes
            contents = (os.pread(stream.fileno(), self._row_bytes, start + n * self._row_bytes) for n in range(len(rows)))
            return _combined([crc32(content) for content in contents])

    def gap(self, rows: int) -> int:
        """Return how many blocks of `rows` rows lie between two that have no page of the file in common."""
        return -(-APART_BYTES // max(1, rows * self._row_bytes))


class _RowWriter:
    """Writes the rows of one block of an array, in any order."""

    def __init__(self, descriptor: int, path: Path, rows: range) -> None:
        self._descriptor, self._path, self._rows = descriptor, path, rows
        self._checksums = [0] * len(rows)

    def write(self, row: int, values: npt.NDArray[Any] | bytes, checksum: int | None = None) -> None:
        """Write one row.

        Raises:
            DataError: if it cannot be written: the disk is full, for instance.
        """
        found = np.ascontiguousarray(values)
        write_row(self._descriptor, found, row, self._path)
        self._checksums[row - self._rows.start] = crc32(found.data.cast("B")) if checksum is None else checksum

    def checksum(self) -> int:
        """Return the checksum of the rows that were written."""
        return _combined(self._checksums)


def allocated(paths: Iterable[Path]) -> int:
    """Return how many bytes some files take on the disk; missing ones take none."""
    found = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            found += path.stat().st_blocks * 512
    return found


def _combined(checksums: list[int]) -> int:
    return zlib.crc32(np.array(checksums, dtype="<u4").tobytes())
