"""A file that is being filled with rows: which of its blocks are done, and how that is known; see `fill`. Numpy only."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikedistill.data.prepare.blocks import session
from spikedistill.data.prepare.blocks.journal import Entry, Journal, read_journals, remove_journals
from spikedistill.data.prepare.blocks.progress import Progress
from spikedistill.data.prepare.blocks.target import Target
from spikedistill.data.prepare.blocks.work import Share, Work, digest_of
from spikedistill.data.prepare.workers import run_workers, shared_zeros
from spikedistill.errors import DataError

log = logging.getLogger(__name__)

COMMIT_S = 5.0
FENCE_S = 1.0
_TRIES = 3
_TO_DO, _WRITTEN, _KEPT, _BAD = range(4)  # states of a block: kept is what the journals have


class Filling:
    """A target that is being filled; see `fill`."""

    def __init__(
        self,
        work: Work,
        target: Target,
        facts: npt.NDArray[Any],
        folder: Path | None,
        share: Share,
    ) -> None:
        """Describe it; nothing is opened yet. For the arguments see `fill`."""
        self._work, self._target, self._facts, self._folder = work, target, facts, folder
        self._session, self._share = session.current(), share
        self.num_blocks = len(work.bounds) - 1
        self.problems: dict[int, list[Any]] = {}
        self._state = shared_zeros(self.num_blocks, np.uint8)
        self._sources = shared_zeros(self.num_blocks, np.uint64)
        self._checksums = shared_zeros(self.num_blocks, np.uint32)
        self._rows_done = shared_zeros(self.num_blocks, np.int64)
        self._known: dict[int, Entry] = {}
        common = {"recipe": work.recipe, "bounds": digest_of(map(str, work.bounds)), "facts": facts.dtype.descr}
        self._recipe = _digest(common)
        name = f"{self._session.token}-{self._session.rank}"
        self._journal = None if folder is None else Journal(folder, self._recipe, name)
        self._progress = Progress(work.what, len(facts))
        self._began_at = self._committed_at = self._fenced_at = time.monotonic()
        self._committed = 0  # rows that this run has noted

    def open(self) -> bool:
        """Open what an earlier run left, or begin; return whether there was something.

        Raises:
            DataError: if the disk lacks space.
        """
        is_resumed = self._resume()
        self._open_journal()
        return is_resumed

    def _open_journal(self) -> None:
        if self._journal is not None:
            self._journal.open(self.num_blocks, self._facts.nbytes)

    def _resume(self) -> bool:
        if self._folder is None or not self._target.exists():
            self._begin()
            return False
        self._target.check_space()
        known = read_journals(self._folder, self._recipe)
        if known is None:
            log.info("%s: what is there was made by other parameters or from other files; starting anew", self._folder)
            self._begin()
            return False
        self._known = known
        if known:
            done = sum(len(self._rows(block)) for block in known if block < self.num_blocks)
            log.info("going on: %d of %d %s before", done, len(self._facts), self._work.what)
        return True

    def _begin(self) -> None:
        if self._folder is not None:
            remove_journals(self._folder)
        self._target.create()

    def join(self) -> None:
        """Open, on a rank other than 0, what rank 0 has opened."""
        assert self._folder is not None
        self._known = read_journals(self._folder, self._recipe) or {}
        self._open_journal()

    def reread(self) -> None:
        """Take over the blocks in the journals of the other ranks of this run."""
        if self._session.world_size > 1 and self._folder is not None:
            for entry in (read_journals(self._folder, self._recipe, f"{self._session.token}-*") or {}).values():
                self._keep(entry)

    def run(self, blocks: Iterable[int], num_workers: int) -> None:
        """Do those of the given blocks that are still to do; add their problems to `problems`."""
        todo = [block for block in blocks if self._state[block] == _TO_DO]
        if not todo:
            return
        changed = 0
        try:
            found = run_workers(
                lambda items: self._write(todo[item] for item in items),
                len(todo),
                num_workers=num_workers,
                watch=lambda _: self.tick(),
            )
        except BaseException:
            with contextlib.suppress(Exception):  # the failure is what matters; the commit only saves work for the next run
                self.commit()
            raise
        for problems, remade in found:
            self.problems |= problems
            changed += remade
        if self.problems or self._session.rank or time.monotonic() - self._began_at > COMMIT_S:
            self.commit()  # what takes less time is not worth a journal entry
        if changed:
            log.info("%d of %d blocks were made again: their files have changed since", changed, len(self._known))

    def _write(self, blocks: Iterator[int]) -> tuple[dict[int, list[Any]], int]:
        """Write blocks, in a worker process; return their problems, and how many the journals had from other sources."""
        problems: dict[int, list[Any]] = {}
        changed = 0
        for block in blocks:
            rows = self._rows(block)
            sources = self._work.sources(rows)
            known = self._known.get(block)
            if known is not None and known.sources == sources and self._keep(known):
                continue
            changed += known is not None and known.sources != sources
            self._check_fence()
            self._rows_done[block] = 0
            with self._target.writing(block, rows) as writer:
                found = self._work.convert(rows, writer, functools.partial(self._count, block))
            if found:
                problems[block] = found
                self._state[block] = _BAD
                continue
            self._sources[block], self._checksums[block] = sources, writer.checksum()
            self._state[block] = _WRITTEN  # last: what is written may be committed at any time
        return problems, changed

    def _check_fence(self) -> None:
        """Check, about every second, that this run still may write.

        Raises:
            LeaseLostError: if another one has taken over.
        """
        if time.monotonic() - self._fenced_at > FENCE_S:
            self._fenced_at = time.monotonic()
            with contextlib.suppress(OSError):  # the file system does not answer: then nobody else gets further, either
                self._session.fence()

    def _count(self, block: int) -> None:
        self._rows_done[block] += 1

    def _keep(self, entry: Entry) -> bool:
        """Take over a block from a journal; return whether it fits."""
        rows, facts = self._rows(entry.block), self._facts
        if len(entry.facts) != len(rows) * facts.dtype.itemsize:
            return False
        facts[rows.start : rows.stop] = np.frombuffer(entry.facts, facts.dtype)
        self._sources[entry.block], self._checksums[entry.block] = entry.sources, entry.checksum
        self._rows_done[entry.block], self._state[entry.block] = len(rows), _KEPT
        return True

    def _rows(self, block: int) -> range:
        return range(self._work.bounds[block], self._work.bounds[block + 1])

    def tick(self) -> None:
        """Show the progress, and commit if it is time to; call about every second."""
        before = int(self._rows_done[self._state == _KEPT].sum()) - self._committed
        self._progress.show(self.rows_done + self._share.others_done(), before=before)
        self._share.tell(self.rows_done)
        if self._journal is not None and time.monotonic() - self._committed_at > COMMIT_S:
            self.commit()
            self._committed_at = time.monotonic()

    @property
    def rows_done(self) -> int:
        """Number of rows that are done here."""
        return int(self._rows_done.sum())

    def commit(self) -> None:
        """Note written blocks in the journal, once they are on the disk.

        Raises:
            DataError: if it cannot be written.
            LeaseLostError: if another run has taken over.
        """
        blocks = np.flatnonzero(self._state == _WRITTEN).tolist()
        if self._journal is None or not blocks:
            return
        try:
            self._session.fence()
        except OSError:  # the file system does not answer: the next commit has these blocks, too
            return
        self._target.sync(blocks)
        self._journal.append(self._entry(block) for block in blocks)
        self._state[blocks] = _KEPT
        self._committed += sum(len(self._rows(block)) for block in blocks)

    def _entry(self, block: int) -> Entry:
        rows = self._rows(block)
        facts = self._facts[rows.start : rows.stop].tobytes()
        return Entry(block, int(self._sources[block]), int(self._checksums[block]), facts)

    def confirm(self, num_workers: int) -> None:
        """Read all blocks again, and rewrite those that differ from what was written.

        Raises:
            DataError: if some still differ after several tries.
        """
        for _ in range(_TRIES):
            damaged = self._damaged(num_workers)
            if not damaged:
                return
            log.warning("%d of %d blocks are not as they were written: made again", len(damaged), self.num_blocks)
            for block in damaged:
                self._known.pop(block, None)
            self._state[damaged] = _TO_DO
            self.run(damaged, num_workers)
            if self.problems:
                return
        raise DataError(f"{self._folder}: the disk does not keep what is written to it, or another program writes there")

    def _damaged(self, num_workers: int) -> list[int]:
        def check(blocks: Iterator[int]) -> list[int]:
            return [each for each in blocks if self._target.checksum(each, self._rows(each)) != self._checksums[each]]

        progress = Progress("blocks compared", self.num_blocks)
        found = run_workers(check, self.num_blocks, num_workers=num_workers, watch=progress.show)
        return sorted(block for each in found for block in each)

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]
