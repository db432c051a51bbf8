"""What is done to fill the blocks of a file, and the part of the ranks of a job in it. Standard library only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from spikedistill.data.prepare.blocks.target import Writer


class Work(Protocol):
    """What is done to fill the rows."""

    @property
    def what(self) -> str:
        """Name of finished rows, such as "images decoded"."""

    @property
    def bounds(self) -> Sequence[int]:
        """First row of each block, and the number of rows."""

    @property
    def recipe(self) -> Mapping[str, Any]:
        """What all rows have in common, in JSON."""

    def sources(self, rows: range) -> int:
        """Return a 64-bit digest of the files that some rows are made from, which changes if one of them may have changed."""

    def convert(self, rows: range, writer: Writer, count: Callable[[], None]) -> list[Any]:
        """Write the rows of a block, fill in their facts, and `count` each.

        Returns:
            Why rows could not be made, one picklable object for each; empty if all were.
        """


@dataclass(frozen=True)
class Share:
    """The part of a job's ranks in the work; by default, this process does everything.

    Attributes:
        own: returns, given their number, the blocks that this rank does while the other ranks do theirs.
        publish: tells the other ranks, before that, what there is to do.
        gather: waits for the other ranks, and returns the problems in their blocks; calls its argument about every second.
        others_done: number of rows that other ranks have done.
        tell: tells other ranks how many rows are done here; called about every second.
    """

    own: Callable[[int], Iterable[int]] = range
    publish: Callable[[], None] = lambda: None
    gather: Callable[[Callable[[], None]], dict[int, list[Any]]] = lambda tick: {}
    others_done: Callable[[], int] = lambda: 0
    tell: Callable[[int], None] = lambda done: None


def digest_of(parts: Iterable[str]) -> int:
    """Return a 64-bit digest of some texts."""
    found = hashlib.blake2b(digest_size=8)
    for part in parts:
        found.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return int.from_bytes(found.digest(), "little")
