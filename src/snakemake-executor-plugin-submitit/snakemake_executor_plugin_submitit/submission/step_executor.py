"""submitit's executor for steps in the Slurm job around the main process: each job is a step, started and awaited by srun."""

import functools
import os
import secrets
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from submitit import LocalExecutor
from submitit.local.local import LocalJob

from snakemake_executor_plugin_submitit.private import FILE_MODE
from snakemake_executor_plugin_submitit.processes import end_with_parent
from snakemake_executor_plugin_submitit.request.resources import Request
from snakemake_executor_plugin_submitit.submission.commands import is_of_outer_job
from snakemake_executor_plugin_submitit.submission.slurm_executor import literal_folder

JOB_ID = "SLURM_JOB_ID"


class StepJob(LocalJob[Any]):
    """A step, represented by its srun process."""

    def cancel(self, check: bool = True) -> None:
        """End the step: srun passes the signal on to its tasks, which end their commands."""
        if self._process is not None:
            self._process.terminate()


class StepExecutor(LocalExecutor):
    """Start a step for each job; srun waits until its resources are free in the allocation."""

    job_class = StepJob

    def __init__(self, folder: Path, request: Request) -> None:
        """Set up for one job.

        Args:
            folder: the job's folder.
            request: its resources.
        """
        super().__init__(folder=folder, max_num_timeout=0)
        self._request = request

    @property
    def _submitit_command_str(self) -> str:
        return shlex.join([sys.executable, "-u", "-m", "snakemake_executor_plugin_submitit.job.step", str(self.folder)])

    def _submit_command(self, command: str) -> StepJob:
        allocation = os.environ[JOB_ID]
        job_id = f"{allocation}-{secrets.token_hex(4)}"
        logs = f"--output={self.folder}/{job_id}_%t_log.out"
        kept = {name: value for name, value in os.environ.items() if not is_of_outer_job(name)}
        log = os.open(self.folder / f"{job_id}_0_log.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, FILE_MODE)
        try:
            process = subprocess.Popen(
                ["srun", logs, *step_options(self._request), *shlex.split(command), job_id],
                env=kept | {JOB_ID: allocation},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=functools.partial(end_with_parent, signal.SIGTERM),
            )
        finally:
            os.close(log)
        return StepJob(folder=self.folder, job_id=job_id, process=process, tasks=list(range(self._request.num_ranks)))


def step_options(request: Request) -> list[str]:
    """Return the options of srun for a job: exactly its own part of the allocation, without overlap.

    Args:
        request: the resources of the job.
    """
    gpus = ":".join(filter(None, [request.gpu_model, str(request.gpus_per_node)]))
    return [
        "--exact",
        f"--nodes={request.nodes}",
        f"--ntasks={request.num_ranks}",
        f"--ntasks-per-node={request.num_ranks // request.nodes}",
        f"--cpus-per-task={request.cpus_per_task}",
        f"--mem={request.mem_mb}M" if request.mem_mb is not None else "--mem=0",
        f"--gpus-per-node={gpus}" if request.gpus_per_node else "--gres=none",
        f"--time={request.runtime_min}",
        "--kill-on-bad-exit=1",
        "--export=ALL",
        "--open-mode=append",
        "--unbuffered",
    ]


def step_executor(folder: Path, request: Request) -> StepExecutor:
    """Return the executor of one job; nothing is written yet.

    Args:
        folder: the job's folder.
        request: its resources.

    Raises:
        WorkflowError: if Slurm cannot write logs into the folder.
    """
    executor = StepExecutor(literal_folder(folder), request)
    executor.update_parameters(timeout_min=request.runtime_min, tasks_per_node=request.num_ranks)
    return executor
