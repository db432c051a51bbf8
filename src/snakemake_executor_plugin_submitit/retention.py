"""Old job folders are removed: logs and submission files of attempts that ended long ago."""

import shutil
import time
from collections.abc import Collection
from pathlib import Path

DAY_S = 86_400


def remove_old(folder: Path, days: int, keep: Collection[Path]) -> None:
    """Remove the folders of attempts, all but the latest of each job, in which nothing was written for some days.

    Args:
        folder: the executor's folder.
        days: 0 keeps everything.
        keep: folders that are in use.
    """
    if days <= 0:
        return
    limit = time.time() - days * DAY_S
    in_use = {*keep, *(log.resolve().parent for log in folder.glob("*/latest/*_log.out"))}
    for job in folder.glob("*/latest"):
        latest = job.resolve()
        for place in job.parent.iterdir():
            if place.is_symlink() or not place.is_dir() or place == latest or place in in_use:
                continue
            if max((file.lstat().st_mtime for file in (place, *place.iterdir())), default=0.0) < limit:
                shutil.rmtree(place, ignore_errors=True)
    for listing in (folder / "inputs").glob("*.txt"):
        if listing.stat().st_mtime < limit:
            listing.unlink(missing_ok=True)
