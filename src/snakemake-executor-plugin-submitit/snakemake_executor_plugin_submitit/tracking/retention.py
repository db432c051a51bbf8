"""Remove old job folders: logs and submission files of attempts that ended long ago, with their lists of inputs and markers."""

import contextlib
import shutil
import time
from collections.abc import Collection
from pathlib import Path

from snakemake_executor_plugin_submitit.submission.submit import DONE_DIR
from snakemake_executor_plugin_submitit.worker.tickets import POOLS, done_marker

DAY_S = 86_400


def remove_old(folder: Path, days: int, keep: Collection[Path]) -> None:
    """Remove the folders of all but the latest attempt of each job, if nothing was written there for some days.

    Lists of inputs, done markers and pools of the same age are removed too.

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
        for job_dir in job.parent.iterdir():
            if job_dir.is_symlink() or not job_dir.is_dir() or job_dir == latest or job_dir in in_use:
                continue
            with contextlib.suppress(OSError):  # another process may be removing it too
                if max(file.lstat().st_mtime for file in (job_dir, *job_dir.iterdir())) < limit:
                    shutil.rmtree(job_dir, ignore_errors=True)
    for pool in (folder / POOLS).glob("*"):
        with contextlib.suppress(OSError):
            if pool not in in_use and max(each.lstat().st_mtime for each in (pool, *pool.iterdir())) < limit:
                shutil.rmtree(pool, ignore_errors=True)
    markers_in_use = {done_marker(job_dir) for job_dir in keep}
    for file in (*(folder / "inputs").glob("*.txt"), *(folder / DONE_DIR).glob("*")):
        with contextlib.suppress(OSError):
            if file.name not in markers_in_use and file.stat().st_mtime < limit:
                file.unlink()
