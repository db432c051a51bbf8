"""`python -m …controller FOLDER`: submitit's controller of a job on this machine, which ends all ranks if one fails.

The ranks stop each other, but not if rank 0's task is killed or cannot write files, or if another's is killed before it has
connected. On Slurm, srun then ends the job.
"""

import contextlib
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from submitit.local.local import LOCAL_REQUEUE_RETURN_CODE, Controller, LocalJobEnvironment

from snakemake_executor_plugin_submitit.job import ranks
from snakemake_executor_plugin_submitit.jsonfile import RESULT, read_result, write_json

# rank 0 notices that another is lost, stops its command, waits twice as long for the others; and Snakemake ends
GRACE_S = ranks.LOST_S + 3 * ranks.TERMINATE_S + 3.0


class RankController(Controller):
    """Start the ranks of a job, and end all of them some time after one has failed."""

    def __init__(self, folder: Path) -> None:
        """Start nothing yet.

        Args:
            folder: the job's folder.
        """
        super().__init__(folder)
        self._main_process = os.getppid()
        self._attempt = -1
        self._failure: dict[str, Any] | None = None

    def start_tasks(self) -> None:
        """Start all ranks, for the first time or after a time limit."""
        self._attempt += 1
        self._failure = None
        super().start_tasks()

    def wait(self, freq: int = 24) -> Sequence[int | None]:
        """Wait for all ranks, at most until the time limit, or for `GRACE_S` after a failure; return their exit statuses.

        Args:
            freq: checks per second.
        """
        end = time.monotonic() + self.timeout_s
        announcement = end - self.signal_delay_s
        while True:
            statuses = [task.poll() for task in self.tasks]
            if self._failure is None and self._note_failure(statuses):
                end = min(end, time.monotonic() + GRACE_S)
            now = time.monotonic()
            if None not in statuses or now >= end:
                break
            if now >= announcement:
                self._forward_signal(LocalJobEnvironment._usr_sig())
                announcement = math.inf
            time.sleep(1 / freq)
        if self._failure is not None and statuses[0] is None:
            self._tell_rank_0(self._failure)
        return statuses

    def run(self, max_retry: int = sys.maxsize) -> None:
        """Run the job to its end; write the result if a rank failed and rank 0 could not write it.

        Args:
            max_retry: the number of attempts; the ranks count how often they reached the time limit, and end the job.
        """
        super().run(max_retry)
        is_orphan = os.getppid() != self._main_process  # then the ranks ended with the main process
        if self._failure is None or self.ntasks == 1 or is_orphan or read_result(self.folder) is not None:
            return
        result = {"status": self._failure["status"], "host": ranks.host(), "failure": self._failure}
        with contextlib.suppress(OSError):  # the disk is full: the job has failed, because it has no result
            write_json(self.folder / RESULT, result)

    def _note_failure(self, statuses: Sequence[int | None]) -> bool:
        """Note the first rank that failed, if any did; if it is rank 0, let the others end."""
        rank = next((r for r, status in enumerate(statuses) if status not in (None, 0, LOCAL_REQUEUE_RETURN_CODE)), None)
        if rank is None:
            return False
        self._failure = {"rank": rank, "host": ranks.host(), "status": statuses[rank], "stopped": False, "time": time.time()}
        if rank == 0:
            with contextlib.suppress(OSError):
                (self._ranks_folder / ranks.END).touch()
        return True

    def _tell_rank_0(self, failure: dict[str, Any]) -> None:
        """Let rank 0, which is about to be ended, report which rank failed."""
        if ranks.read_failure(str(self._ranks_folder)) is None:
            with contextlib.suppress(OSError):
                write_json(self._ranks_folder / ranks.FAILURE, failure)

    @property
    def _ranks_folder(self) -> Path:
        return ranks.attempt_folder(self.folder, self.pid, 0, self._attempt)


def main() -> None:
    """Run the job whose folder is named on the command line; without a traceback if it is told to end."""
    try:
        RankController(Path(sys.argv[1])).run()
    except KeyboardInterrupt:  # the main process cancels; the ranks have been ended
        sys.exit(130)


if __name__ == "__main__":
    main()
