"""Old job folders are removed: logs and submission files of attempts that ended long ago, and what belonged to them."""

import contextlib
import shutil
import time
from collections.abc import Collection
from pathlib import Path

from snakemake_executor_plugin_submitit.submission.submit import ENDED, end_mark

DAY_S = 86_400


def remove_old(folder: Path, days: int, keep: Collection[Path]) -> None:
    """Remove the folders of attempts, all but the latest of each job, in which nothing was written for some days.

    With them go the lists of inputs and the marks of ended jobs that are as old.

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
            with contextlib.suppress(OSError):  # another process removes it, too
                if max(file.lstat().st_mtime for file in (place, *place.iterdir())) < limit:
                    shutil.rmtree(place, ignore_errors=True)
    marks_in_use = {end_mark(place) for place in keep}
    for file in (*(folder / "inputs").glob("*.txt"), *(folder / ENDED).glob("*")):
        with contextlib.suppress(OSError):
            if file.name not in marks_in_use and file.stat().st_mtime < limit:
                file.unlink()
