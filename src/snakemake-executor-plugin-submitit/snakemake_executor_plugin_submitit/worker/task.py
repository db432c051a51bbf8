"""The task that submitit runs in a job of a pool: a worker, which ends like a job of its own."""

import os
import time
from dataclasses import replace
from pathlib import Path

from snakemake_executor_plugin_submitit.job import ranks
from snakemake_executor_plugin_submitit.job.task import PRIVATE_UMASK, keep_log
from snakemake_executor_plugin_submitit.processes import ProcessId
from snakemake_executor_plugin_submitit.request.pooling import MARGIN_S
from snakemake_executor_plugin_submitit.worker.loop import Terms, Worker
from snakemake_executor_plugin_submitit.worker.running import write_result


class WorkerTask:
    """Serve a pool until there is nothing to do, or no time to do it in."""

    def __init__(
        self,
        pool: str,
        folder: str,
        terms: Terms,
        *,
        done_marker: str | None = None,
        owner: ProcessId | None = None,
    ) -> None:
        """Describe the task; nothing runs yet.

        Args:
            pool: the folder of the pool's tickets.
            folder: the worker's own folder.
            terms: how it works.
            done_marker: file to create when it has ended; None: none.
            owner: process of this machine whose end also ends the worker; None: none.
        """
        self.pool, self.folder, self.terms = pool, folder, terms
        self.done_marker, self.owner = done_marker, owner

    def __call__(self) -> int:
        """Work; return 0, or exit so that Slurm records a failure."""
        import submitit

        environment = submitit.JobEnvironment()
        umask = os.umask(PRIVATE_UMASK)
        keep_log(environment.paths.stdout, Path(self.folder))
        on_slurm = environment.cluster == "slurm"
        restarts = os.environ.get("SLURM_RESTART_COUNT", "0") if on_slurm else "0"
        terms = replace(self.terms, limit_s=min(self.terms.limit_s, _time_left_s())) if on_slurm else self.terms
        name = f"{environment.job_id}.{restarts}"
        worker = Worker(Path(self.pool), terms, name, umask=umask, on_slurm=on_slurm, owner=self.owner)
        worker.enter(str(environment.paths.stdout), self.folder)
        ended = worker.work()
        if self.done_marker is not None:
            write_result(self.folder, self.done_marker, {"status": 0, "host": ranks.host(), "jobs": ended})
        return 0


def _time_left_s() -> float:
    """Return the time until a job on Slurm must have ended, if Slurm tells: a site may have shortened its limit."""
    end = os.environ.get("SLURM_JOB_END_TIME", "")
    return int(end) - time.time() - MARGIN_S if end.isdigit() else float("inf")
