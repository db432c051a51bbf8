"""Targets for rows of any length, with a file for each block, and for rows that are not written. Standard library only."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy.typing as npt

from spikedistill.data.formats.files import check_free_space, reason
from spikedistill.data.formats.isal_zlib import crc32
from spikedistill.data.prepare.blocks.target import allocated
from spikedistill.errors import DataError
from spikedistill.store.atomic import fsync

_READ_BYTES = 4 << 20


class PackTarget:
    """A folder with a file for each block: its rows, which are of any length, one after the other."""

    def __init__(self, folder: Path, needed: Callable[[], int], what: str) -> None:
        """Describe the folder.

        Args:
            folder: for the files.
            needed: returns about how many bytes they will take.
            what: their content, for messages.
        """
        self._folder, self._needed, self._what = folder, needed, what

    def check_space(self) -> None:
        """Check that the disk has space for what is not there yet.

        Raises:
            DataError: if it lacks space.
        """
        check_free_space(self._folder.parent, self._needed() - allocated(self._folder.glob("*")), self._what)

    def create(self) -> None:
        """Make the folder.

        Raises:
            DataError: if the disk lacks space for the files.
        """
        self.check_space()
        self._folder.mkdir(exist_ok=True)

    def exists(self) -> bool:
        """Return whether the folder is there."""
        return self._folder.is_dir()

    def path(self, block: int) -> Path:
        """Return the file of a block."""
        return self._folder / f"{block:05d}.bin"

    @contextlib.contextmanager
    def writing(self, block: int, rows: range) -> Iterator[_FileWriter]:
        """Write the file of a block.

        Raises:
            DataError: if it cannot be written: the disk is full, for instance.
        """
        path = self.path(block)
        try:
            with path.open("wb") as stream:
                yield _FileWriter(stream)
        except BaseException as err:
            path.unlink(missing_ok=True)
            if isinstance(err, OSError):
                raise DataError(f"{path}: {reason(err)}") from err
            raise

    def sync(self, blocks: Iterable[int]) -> None:
        """Wait until the files of some blocks are on the disk.

        Raises:
            DataError: if they cannot be written.
        """
        path = self._folder
        try:
            for block in blocks:
                path = self.path(block)
                fsync(path)
            fsync(self._folder)
        except OSError as err:
            raise DataError(f"{path}: {reason(err)}") from err

    def checksum(self, block: int, rows: range) -> int:
        """Return the checksum of the file of a block; 0 if there is none."""
        found = 0
        with contextlib.suppress(FileNotFoundError), self.path(block).open("rb", buffering=0) as stream:
            while piece := stream.read(_READ_BYTES):
                found = crc32(piece, found)
        return found

    def gap(self, rows: int) -> int:
        """Return 0: every block has a file of its own."""
        return 0


class _FileWriter:
    """Writes the rows of one block to a file, in their order."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._checksum = stream, 0

    def write(self, row: int, values: npt.NDArray[Any] | bytes, checksum: int | None = None) -> None:
        """Write one row."""
        self._stream.write(values)
        self._checksum = crc32(values, self._checksum)

    def checksum(self) -> int:
        """Return the checksum of what was written."""
        return self._checksum


class NoTarget:
    """Nothing is written: the rows are only looked at."""

    def check_space(self) -> None:
        """Do nothing."""

    def create(self) -> None:
        """Do nothing."""

    def exists(self) -> bool:
        """Return True: nothing is missing."""
        return True

    @contextlib.contextmanager
    def writing(self, block: int, rows: range) -> Iterator[NoTarget]:
        """Write nothing."""
        yield self

    def write(self, row: int, values: Any, checksum: int | None = None) -> None:
        """Do nothing."""

    def sync(self, blocks: Iterable[int]) -> None:
        """Do nothing."""

    def checksum(self, block: int = 0, rows: range = range(0)) -> int:
        """Return 0."""
        return 0

    def gap(self, rows: int) -> int:
        """Return 0."""
        return 0
