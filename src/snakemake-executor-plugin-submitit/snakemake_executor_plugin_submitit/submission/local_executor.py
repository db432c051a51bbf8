"""submitit's executor for this machine, whose jobs Ctrl-C in the terminal does not reach: the main process cancels them."""

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError
from submitit import LocalExecutor
from submitit.local.local import LocalJob

from snakemake_executor_plugin_submitit.request.local_slots import visible_devices
from snakemake_executor_plugin_submitit.request.resources import Request

SIGNAL_DELAY_S = 10  # before the time limit


class QuietLocalExecutor(LocalExecutor):
    """Start a controller, in a session of its own, for each job."""

    def __init__(self, folder: Path, max_num_timeout: int, devices: Sequence[str]) -> None:
        """Set up for one job; `devices` are the names of its GPUs for CUDA_VISIBLE_DEVICES."""
        super().__init__(folder=folder, max_num_timeout=max_num_timeout)
        self._devices = devices

    @property
    def _submitit_command_str(self) -> str:
        return shlex.join([sys.executable, "-u", "-m", "snakemake_executor_plugin_submitit.job.start", str(self.folder)])

    def _submit_command(self, command: str) -> LocalJob[Any]:
        ranks = self.parameters["tasks_per_node"]
        variables = {
            "SUBMITIT_EXECUTOR": "local",
            "SUBMITIT_LOCAL_COMMAND": command,
            "SUBMITIT_LOCAL_NTASKS": str(ranks),
            "SUBMITIT_LOCAL_TIMEOUT_S": str(60 * self.parameters["timeout_min"]),
            "SUBMITIT_LOCAL_SIGNAL_DELAY_S": str(SIGNAL_DELAY_S),
            "SUBMITIT_LOCAL_NODEID": "0",
            "SUBMITIT_LOCAL_JOB_NUM_NODES": "1",
            "SUBMITIT_LOCAL_WITH_SHELL": "",
            "SUBMITIT_STDERR_TO_STDOUT": "1",
            "CUDA_VISIBLE_DEVICES": ",".join(self._devices),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "snakemake_executor_plugin_submitit.job.controller", str(self.folder)],
            env={**os.environ, **variables},
            start_new_session=True,
        )
        return LocalJob(folder=self.folder, job_id=str(process.pid), process=process, tasks=list(range(ranks)))


def local_executor(folder: Path, request: Request, gpus: Sequence[int]) -> QuietLocalExecutor:
    """Return the executor of one job; nothing is written yet.

    Args:
        folder: the job's folder.
        request: its resources; all of its nodes are this machine.
        gpus: the indices of the GPUs to use, among those that this process sees; (): the first ones, if GPUs are requested.

    Raises:
        WorkflowError: if this process sees fewer GPUs.
    """
    num_gpus = request.nodes * request.gpus_per_node
    devices = _devices(gpus[:num_gpus] or range(num_gpus))
    executor = QuietLocalExecutor(folder, request.max_requeues, devices)
    executor.update_parameters(timeout_min=request.runtime_min, tasks_per_node=request.num_ranks)
    return executor


def _devices(gpus: Sequence[int]) -> list[str]:
    """Return the names of GPUs for CUDA_VISIBLE_DEVICES: those that this process has in it, if it is set."""
    devices = visible_devices()
    if devices is None:
        return [str(index) for index in gpus]
    if max(gpus, default=-1) >= len(devices):
        raise WorkflowError(
            f"CUDA_VISIBLE_DEVICES names {len(devices)} GPUs, and the job is to use number {max(gpus) + 1}: lower "
            "--submitit-local-gpus or gpus_per_node"
        )
    return [devices[index] for index in gpus]
