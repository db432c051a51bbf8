"""Which blocks are durably written: a journal beside the file that they lie in. Standard library only.

A journal has a line for each block: the CRC-32 of the line, and in JSON the block's number, the digest of what it was made from,
the checksum of what was written, and the facts of its rows. The data is on the disk before its line is. A line that is cut off or
altered does not count. Every run, and every rank of it, writes a journal of its own, and reads those of all.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from spikedistill.data.formats.files import reason, reserve
from spikedistill.errors import DataError
from spikedistill.store.atomic import fsync

_PATTERN = "journal-*.jsonl"
_LINE_BYTES = 80  # of a block, without its facts


class Entry(NamedTuple):
    """A block that is done: its number, digest of its sources, checksum of what was written, and the facts of its rows."""

    block: int
    sources: int
    checksum: int
    facts: bytes


class Journal:
    """The journal of one rank of one run."""

    def __init__(self, folder: Path, recipe: str, name: str) -> None:
        """Describe a journal.

        Args:
            folder: for the journals of one file.
            recipe: digest of all that blocks have in common; a journal with another one is of another preparation.
            name: distinguishes this run and rank from all others.
        """
        self._path, self._recipe = folder / _PATTERN.replace("*", name), recipe
        self._stream: BinaryIO | None = None
        self._is_durable = False  # whether the name of the file is on the disk

    def open(self, num_blocks: int, num_facts: int) -> None:
        """Begin the file, with space reserved for `num_blocks` blocks and, for all of them together, `num_facts` bytes of facts.

        So what was done can be noted even when the disk becomes full.

        Raises:
            DataError: if the disk is full, for instance.
        """
        try:
            self._stream = self._path.open("ab", buffering=0)
            reserve(self._stream.fileno(), num_blocks * _LINE_BYTES + num_facts * 4 // 3, keep_size=True)
            self._write([b"\n" + _line([self._recipe])])  # a run of this name may have left half a line
        except OSError as err:
            raise DataError(f"{self._path}: {reason(err)}") from err

    def append(self, entries: Iterable[Entry]) -> None:
        """Note blocks whose data is on the disk, durably.

        Raises:
            DataError: if the disk is full, for instance.
        """
        found = [[each.block, each.sources, each.checksum, base64.b64encode(each.facts).decode("ascii")] for each in entries]
        try:
            os.fsync(self._write([_line(values) for values in found]))
            if not self._is_durable:
                fsync(self._path.parent)
                self._is_durable = True
        except OSError as err:
            raise DataError(f"{self._path}: {reason(err)}") from err

    def _write(self, lines: list[bytes]) -> int:
        """Write lines; return the descriptor of the file."""
        assert self._stream is not None
        content = memoryview(b"".join(lines))
        while content:
            content = content[self._stream.write(content) :]
        return self._stream.fileno()

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _line(values: Sequence[object]) -> bytes:
    text = json.dumps(values, separators=(",", ":")).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def read_journals(folder: Path, recipe: str, names: str = "*") -> dict[int, Entry] | None:
    """Return the blocks that are done by the journals of a folder; None if one of these is of another preparation.

    Args:
        folder: of the journals.
        recipe: as in `Journal`.
        names: pattern of the names of journals that count.
    """
    found: dict[int, Entry] = {}
    paths = folder.glob(_PATTERN.replace("*", names))
    for path in sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name)):
        is_known = False
        for values in _whole_lines(path):
            match values:
                case [str(other)]:
                    if other != recipe:
                        return None
                    is_known = True
                case [int(block), int(sources), int(checksum), str(facts)] if is_known:
                    found[block] = Entry(block, sources, checksum, base64.b64decode(facts))
    return found


def _whole_lines(path: Path) -> Iterator[object]:
    with path.open("rb") as stream:
        for line in stream:
            checksum, _, text = line.rstrip(b"\n").partition(b" ")
            if line.endswith(b"\n") and checksum == b"%08x" % zlib.crc32(text):
                yield json.loads(text)


def remove_journals(folder: Path) -> None:
    """Remove all journals of a folder: what they are about is made anew."""
    for path in folder.glob(_PATTERN):
        path.unlink(missing_ok=True)
