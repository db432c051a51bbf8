"""Remove old job folders: logs and submission files of attempts that ended long ago, with their lists of inputs and markers.

The executor's folder may hold other files, as the working directory does: only what has the name, the content and the mode that
the plugin gives it is removed.
"""

import contextlib
import re
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from snakemake_executor_plugin_submitit.submission.submit import ATTEMPT, DONE_DIR
from snakemake_executor_plugin_submitit.tracking.registry import REPORTED
from snakemake_executor_plugin_submitit.worker.tickets import CLAIMS, POOLS, QUEUE, done_marker

DAY_S = 86_400
OTHERS = stat.S_IRWXG | stat.S_IRWXO
IN_ATTEMPTS = ("*_log.out", "*_submitted.pkl", "*_tasks.pkl", REPORTED)  # each attempt that was submitted has one of them
LISTING = re.compile(r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}\.txt")  # uuid4, see `get_job_args` of the executor
POOL = re.compile("[0-9a-f]{12}")  # see `Pools._pool`
MARKER = re.compile(rf"[A-Za-z0-9_.=,-]+\+{ATTEMPT.pattern}")  # see `done_marker` and `safe_name`


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
    folder, limit = folder.resolve(), time.time() - days * DAY_S
    in_use = {path.resolve() for path in keep} | {log.resolve().parent for log in folder.glob("*/latest/*_log.out")}
    for made in (*_earlier_attempts(folder), *_find(folder / POOLS, POOL, _is_pool)):
        with contextlib.suppress(OSError):  # another process may be removing it too
            if made not in in_use and max(file.lstat().st_mtime for file in (made, *made.iterdir())) < limit:
                shutil.rmtree(made, ignore_errors=True)
    markers_in_use = {done_marker(job_dir) for job_dir in keep}
    for file in (*_find(folder / "inputs", LISTING, _is_private), *_find(folder / DONE_DIR, MARKER, _is_empty_file)):
        with contextlib.suppress(OSError):
            if file.name not in markers_in_use and file.lstat().st_mtime < limit:
                file.unlink()


def _earlier_attempts(folder: Path) -> Iterator[Path]:
    """Yield the folders of all but the latest attempt of each job."""
    for latest in folder.glob("*/latest"):
        with contextlib.suppress(OSError):  # it is no link
            name = str(latest.readlink())
            if ATTEMPT.fullmatch(name):
                yield from (path for path in _find(latest.parent, ATTEMPT, _is_attempt) if path.name != name)


def _is_attempt(path: Path) -> bool:
    return _is_private(path) and any(next(path.glob(pattern), None) for pattern in IN_ATTEMPTS)


def _is_pool(path: Path) -> bool:
    return _is_private(path) and ((path / QUEUE).is_dir() or (path / CLAIMS).is_dir())


def _is_private(path: Path) -> bool:
    return not path.stat().st_mode & OTHERS


def _is_empty_file(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == 0


def _find(folder: Path, name: re.Pattern[str], is_made: Callable[[Path], bool]) -> Iterator[Path]:
    """Yield what has such a name and content in a folder; nothing behind links, which the plugin does not make."""
    with contextlib.suppress(OSError):  # there is no such folder
        for path in () if folder.is_symlink() else folder.iterdir():
            with contextlib.suppress(OSError):  # another process has just removed it
                if name.fullmatch(path.name) and not path.is_symlink() and is_made(path):
                    yield path
