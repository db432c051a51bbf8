"""The ranks of a job share the images of a dataset. Numpy only.

Rank 0 writes down the rows and what is to be done with them; the others need not look for the images themselves.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spikedistill.data.formats.images import ImageFiles
from spikedistill.data.prepare.blocks import session
from spikedistill.data.prepare.blocks.fill import join
from spikedistill.data.prepare.blocks.ranks import Follow, Lead
from spikedistill.data.prepare.blocks.target import Target
from spikedistill.data.prepare.blocks.work import Share
from spikedistill.data.prepare.images.tasks import Task, files_of, make
from spikedistill.data.prepare.images.work import ImageWork
from spikedistill.data.rows import Rows, write_columns

ROWS = "order"


def lead(task: Task, files: ImageFiles, doing: ImageWork, target: Target, options: Mapping[str, Any], work: Path) -> Share | None:
    """Return how rank 0 shares a task with the other ranks of its job; None if there are none.

    Args:
        task: its name.
        files: the images.
        doing: the work.
        target: what is written to.
        options: of the task.
        work: folder that all ranks see.
    """
    here = session.current()
    if here.world_size == 1:
        return None
    shutil.rmtree(work / ROWS, ignore_errors=True)
    (work / ROWS).mkdir()
    rows = [files.row(row) for row in range(len(files))]
    content = {
        "task": task,
        "root": str(files.root),
        "how": files.how,
        "options": dict(options),
        "rows": write_columns(work / ROWS, rows),
    }
    return Lead(work, here, 0, content, target.gap(doing.bounds[1])).share


def serve(work: Path, num_workers: int) -> None:
    """Do this rank's part of what rank 0 shares, until rank 0 no longer holds its lease; for ranks other than 0.

    Args:
        work: folder that all ranks see.
        num_workers: number of processes.

    Raises:
        DataError: if the disk is full, for instance.
    """
    follow = Follow(work, session.current())
    for order in follow.orders():
        files = files_of(Path(order["root"]), Rows(work / ROWS, order["rows"]), order["how"])
        folder = work / order["task"]
        doing, target = make(order["task"], files, folder, order["options"])
        done, problems = join(doing, target, doing.facts, folder=folder, num_workers=num_workers, share=follow.share)
        follow.finish(done, problems)
