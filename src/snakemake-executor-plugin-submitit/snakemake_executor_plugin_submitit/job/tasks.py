"""The tasks of a job array in one file: a line of JSON with their sizes, then one pickle after the other.

Thousands of pending jobs then take one file instead of thousands, and each job reads only its own part.
"""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from snakemake_executor_plugin_submitit.jsonfile import write_file
from snakemake_executor_plugin_submitit.private import write_new

SUFFIX = "_tasks.pkl"
PATIENCE_S = 60  # the file gets its name just after sbatch has returned, and a job may start before that


def write_tasks(path: Path, pickles: Sequence[bytes]) -> None:
    """Write the file, which must not exist.

    Raises:
        OSError: if it cannot be written.
    """
    sizes = json.dumps([len(each) for each in pickles]).encode()
    write_new(path, sizes + b"\n" + b"".join(pickles))


def read_task(path: Path, index: int) -> bytes:
    """Return the pickle of one task.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is damaged.
        IndexError: if there are fewer tasks.
    """
    with path.open("rb") as file:
        sizes = json.loads(file.readline())
        file.seek(sum(sizes[:index]), os.SEEK_CUR)
        content = file.read(sizes[index])
    if len(content) != sizes[index]:
        raise ValueError(f"{path}: it is cut off")
    return content


def fetch_own_task(folder: Path) -> None:
    """In a job of an array, put the pickle of its task where submitit expects it, unless it is there from before a requeue.

    Args:
        folder: the array's folder.

    Raises:
        OSError: if it cannot be read or written.
        ValueError: if the tasks are damaged.
    """
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID", "")
    if array is None or not index.isdigit():
        return
    own, tasks = folder / f"{array}_{index}_submitted.pkl", folder / f"{array}{SUFFIX}"
    deadline = time.monotonic() + PATIENCE_S
    while not own.exists() and not tasks.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    if own.exists() or not tasks.exists():  # submitit reports what is missing
        return
    write_file(own, read_task(tasks, int(index)))
