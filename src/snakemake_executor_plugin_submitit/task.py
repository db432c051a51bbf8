"""The one task that submitit runs on every rank of a job.

Rank 0 runs the job's command, which for Snakemake is its own remote job step. Other ranks wait for what `spmd` on rank 0
publishes, and run that too. The outcome is a small JSON file, written atomically, which the main process reads.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from snakemake_executor_plugin_submitit import gang

HOLD_S = 600.0
TERMINATE_S = 5.0


class CommandTask:
    """Runs a shell command on rank 0 of a job, and on the other ranks what `spmd` publishes."""

    def __init__(self, command: str, folder: str, *, gpus_per_node: int, cpus_per_task: int) -> None:
        """Describe the task; nothing runs yet.

        Args:
            command: for bash.
            folder: the job's folder, seen by every node.
            gpus_per_node: 0 hides all GPUs from the command.
            cpus_per_task: threads that numeric libraries may use, unless OMP_NUM_THREADS says otherwise.
        """
        self.command = command
        self.folder = folder
        self.gpus_per_node = gpus_per_node
        self.cpus_per_task = cpus_per_task
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped_by: int | None = None

    def __call__(self) -> int:
        """Run this rank; returns 0, or exits so that Slurm books the job as failed."""
        import submitit

        environment = submitit.JobEnvironment()
        me = gang.Member(
            folder=str(Path(self.folder) / f"ranks-{environment.job_id}-{os.environ.get('SLURM_RESTART_COUNT', '0')}"),
            rank=environment.global_rank,
            world_size=environment.num_tasks,
            local_rank=environment.local_rank,
            node_rank=environment.node,
            num_nodes=environment.num_nodes,
        )
        Path(me.folder).mkdir(parents=True, exist_ok=True)
        on_slurm = "SLURM_JOB_ID" in os.environ
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._set_environment(me)
        if me.rank > 0:
            return gang.follow(me)
        status = self._run_command(me)
        if self._stopped_by is not None and on_slurm:
            self._hold()
        self._write_result(me, status)
        if status:
            print(f"the command failed with exit status {status}", file=sys.stderr, flush=True)
            raise SystemExit(status if status > 0 else 1)
        return 0

    def checkpoint(self) -> Any:
        """Called by submitit shortly before the time limit: stop the command; the requeued job starts it again."""
        from submitit.helpers import DelayedSubmission

        self._kill_child(signal.SIGKILL)
        fresh = CommandTask(self.command, self.folder, gpus_per_node=self.gpus_per_node, cpus_per_task=self.cpus_per_task)
        return DelayedSubmission(fresh)

    def _set_environment(self, me: gang.Member) -> None:
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        os.environ.setdefault("OMP_NUM_THREADS", str(self.cpus_per_task))
        os.environ.update(me.to_environment())
        if not self.gpus_per_node:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""

    def _run_command(self, me: gang.Member) -> int:
        try:
            self._child = subprocess.Popen(["bash", "-c", self.command], start_new_session=True, preexec_fn=gang.prepare_child)
            status = self._child.wait()
        finally:
            (Path(me.folder) / gang.END).touch()
        self._kill_child(signal.SIGKILL)  # what the command may have left behind
        return status

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopped_by = number
        self._kill_child(signal.SIGTERM)
        signal.signal(signal.SIGALRM, lambda *_: self._kill_child(signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, TERMINATE_S)

    def _kill_child(self, number: int) -> None:
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, number)

    def _hold(self) -> None:
        """Slurm is stopping this job (preemption, cancel): leave no result, so that a requeue is not taken for an end."""
        deadline = time.monotonic() + HOLD_S
        while time.monotonic() < deadline:
            time.sleep(1)

    def _write_result(self, me: gang.Member, status: int) -> None:
        result = {"status": status, "host": socket.gethostname(), "stopped_by": self._stopped_by}
        failure = gang.read_failure(me.folder)
        if failure:
            result["failure"] = failure
        gang.write_json(Path(self.folder) / RESULT, result)


RESULT = "result.json"


def read_result(folder: Path) -> dict[str, Any] | None:
    """The outcome of the job of a folder, or None while there is none."""
    try:
        return json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
