"""How the ranks of a job share the blocks of one file, through the folder that they all see. Standard library only.

Rank 0 publishes an order. Every rank then does its own run of blocks. Rank 0 afterwards does the blocks left between the runs: on
a network file system, two nodes that write to one page of a file at the same time may overwrite each other's data. The other
ranks note what they have done, and finally their problems. Orders and notes carry the token of rank 0's lease, so that those of
an earlier run do not count; an incomplete one is read again.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from spikedistill.data.prepare.blocks.session import Session
from spikedistill.data.prepare.blocks.work import Share
from spikedistill.store.atomic import write_text
from spikedistill.store.lease import LeaseLostError

log = logging.getLogger(__name__)

ORDER = "order.json"
POLL_S = 1.0
NOTE_S = 2.0


def own_blocks(rank: int, world_size: int, num_blocks: int, gap: int) -> range:
    """Return the blocks that a rank does while the others do theirs.

    Args:
        rank: its number.
        world_size: number of ranks.
        num_blocks: number of all blocks.
        gap: blocks before those of each rank but the first that are left to rank 0.
    """
    start, stop = (num_blocks * each // world_size for each in (rank, rank + 1))
    return range(min(start + (gap if rank else 0), stop), stop)


class Lead:
    """Rank 0's side of one order."""

    def __init__(self, folder: Path, session: Session, number: int, content: dict[str, Any], gap: int) -> None:
        """Describe an order; nothing is published yet.

        Args:
            folder: that all ranks see.
            session: of rank 0.
            number: of the order in this run, from 0.
            content: what is to be done, in JSON.
            gap: see `own_blocks`.
        """
        self._folder, self._session, self._number = folder, session, number
        self._content, self._gap = content, gap

    @property
    def share(self) -> Share:
        """Return what `fill` needs."""
        return Share(self._own, self._publish, self._gather, self._others_done)

    def _own(self, num_blocks: int) -> range:
        return own_blocks(0, self._session.world_size, num_blocks, self._gap)

    def _publish(self) -> None:
        order = {"run": self._session.token, "number": self._number, "gap": self._gap, "content": self._content}
        write_text(self._folder / ORDER, json.dumps(order))

    def _notes(self) -> dict[int, dict[str, Any]]:
        found = {rank: _read(self._folder / _note_name(rank)) for rank in range(1, self._session.world_size)}
        ours = {"run": self._session.token, "number": self._number}
        return {rank: note for rank, note in found.items() if note is not None and ours.items() <= note.items()}

    def _gather(self, tick: Callable[[], None]) -> dict[int, list[Any]]:
        while True:
            notes = self._notes()
            if len(notes) == self._session.world_size - 1 and all(note["problems"] is not None for note in notes.values()):
                return {int(block): found for note in notes.values() for block, found in note["problems"].items()}
            tick()
            time.sleep(POLL_S)

    def _others_done(self) -> int:
        return sum(note["done"] for note in self._notes().values())


class Follow:
    """Another rank's side: the orders of a run, one after the other."""

    def __init__(self, folder: Path, session: Session) -> None:
        """Describe it; for the arguments see `Lead`."""
        self._folder, self._session, self._number, self._gap = folder, session, 0, 0
        self._noted_at = 0.0

    def orders(self) -> Iterator[dict[str, Any]]:
        """Yield what is to be done; end when rank 0 no longer holds its lease."""
        while True:
            order = _read(self._folder / ORDER)
            if order is not None and order["run"] == self._session.token and order["number"] == self._number:
                self._gap = order["gap"]
                yield order["content"]
                self._number += 1
                continue
            try:
                self._session.fence()
            except LeaseLostError:
                return
            except OSError as err:
                log.warning("the lease of rank 0 cannot be read: %s", err.strerror or err)
            time.sleep(POLL_S)

    @property
    def share(self) -> Share:
        """Return what `join` needs for the last order."""
        return Share(self._own, tell=self._tell)

    def _own(self, num_blocks: int) -> range:
        return own_blocks(self._session.rank, self._session.world_size, num_blocks, self._gap)

    def _tell(self, done: int) -> None:
        if time.monotonic() - self._noted_at > NOTE_S:
            self._note(done, None)

    def finish(self, done: int, problems: dict[int, list[Any]]) -> None:
        """Tell rank 0 that an order is done: how many rows, and the problems in blocks."""
        self._note(done, problems)

    def _note(self, done: int, problems: dict[int, list[Any]] | None) -> None:
        self._noted_at = time.monotonic()
        note = {"run": self._session.token, "number": self._number, "done": done, "problems": problems}
        write_text(self._folder / _note_name(self._session.rank), json.dumps(note))


def _note_name(rank: int) -> str:
    return f"rank-{rank}.json"


def _read(path: Path) -> dict[str, Any] | None:
    """Return the content of a note; None if there is none, or the file system shows only a part of it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
