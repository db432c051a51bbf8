"""Fill a file with rows, block by block, in parallel processes; what an interrupted run did is not done again.

Worker processes write blocks. Every few seconds this process waits until they are on the disk, and notes them in the journal. A
run that finds a journal skips the blocks that are in it, unless their sources have changed. Before it ends, it reads all blocks
again and rewrites those that differ from what was written: torn by a power cut, or by a run that was believed dead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt

from spikedistill.data.prepare.blocks.filling import Filling
from spikedistill.data.prepare.blocks.target import Target
from spikedistill.data.prepare.blocks.work import Share, Work


def fill(
    work: Work,
    target: Target,
    facts: npt.NDArray[Any],
    *,
    folder: Path | None,
    num_workers: int,
    share: Share | None = None,
) -> list[Any]:
    """Fill a target with rows.

    Args:
        work: what is done.
        target: what is written to.
        facts: what becomes known of each row, [N], in shared memory; `work` fills it in.
        folder: for the journals, which survives an interruption; None: keep none, and begin from the start.
        num_workers: number of processes.
        share: the part of the other ranks.

    Returns:
        The problems, in the order of the rows; what could be made is kept for the next run.

    Raises:
        DataError: if the disk is full, for instance, or a process was killed.
    """
    share = share or Share()
    filling = Filling(work, target, facts, folder, share)
    try:
        is_resumed = filling.open()
        share.publish()
        filling.run(share.own(filling.num_blocks), num_workers)
        filling.problems |= share.gather(filling.tick)
        filling.reread()
        filling.run(range(filling.num_blocks), num_workers)
        if is_resumed and not filling.problems:
            filling.confirm(num_workers)
    finally:
        filling.close()
    return [problem for block in sorted(filling.problems) for problem in filling.problems[block]]


def join(
    work: Work, target: Target, facts: npt.NDArray[Any], *, folder: Path, num_workers: int, share: Share
) -> tuple[int, dict[int, list[Any]]]:
    """Do the part of a rank other than 0 in what rank 0 fills; for the arguments see `fill`.

    Returns:
        The number of rows that were done, and the problems by the number of the block.
    """
    filling = Filling(work, target, facts, folder, share)
    try:
        filling.join()
        filling.run(share.own(filling.num_blocks), num_workers)
    finally:
        filling.close()
    return filling.rows_done, filling.problems


def in_blocks(num_rows: int, largest: int) -> list[int]:
    """Return bounds that divide rows into blocks of equal size: at most `largest`, and small enough for some hundreds."""
    size = max(1, min(largest, num_rows // 256))
    return [*range(0, num_rows, size), num_rows]
