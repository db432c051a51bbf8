"""The task that submitit runs on every rank of a job.

Rank 0 runs the job's command, which for Snakemake is its own remote job step. The other ranks wait for the commands that `spmd`
on rank 0 publishes, and run them too. The result is a small JSON file, written atomically, which the main process reads. It is
written once, when nothing is left to try: a job that Slurm is about to requeue writes none.

What the task writes is private to its owner; the command has the umask with which the job was submitted.
"""

import contextlib
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from snakemake_executor_plugin_submitit.job import ranks
from snakemake_executor_plugin_submitit.jsonfile import RESULT, read_result, write_file, write_json
from snakemake_executor_plugin_submitit.private import FILE_MODE, make_folder
from snakemake_executor_plugin_submitit.processes import ProcessId, is_group_alive

PRIVATE_UMASK = 0o077
LONGEST_ARGUMENT = 128 * 1024  # the kernel's limit for one argument of a command
HOLD_S = 600.0
SIGNAL_SPREAD_S = 1.0  # Slurm signals the processes of a job one after another
LOCAL_TERMINATE_S = 0.6  # submitit's local controller kills after one second
REQUEUE_S = 60.0
GIVEN_GPUS = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS")  # set by Slurm for GPUs and for shares of them (shard, mps)


def are_gpus_given() -> bool:
    """Return True if Slurm gave this job GPUs, be it for options that are not counted, as in gres=shard:2."""
    return any(os.environ.get(name) for name in GIVEN_GPUS)


def keep_log(log: Path, folder: Path) -> None:
    """Make a log private, and link it into the job's folder: the logs of an array are in a folder of their own."""
    with contextlib.suppress(OSError):
        log.chmod(FILE_MODE)
        if log.parent != folder and not (folder / log.name).is_symlink():
            (folder / log.name).symlink_to(os.path.relpath(log, folder))


class CommandTask:
    """Run a shell command on rank 0 of a job, and on the other ranks the commands that `spmd` publishes."""

    time_to_save_s = ranks.TERMINATE_S  # of jobs that an earlier version submitted

    def __init__(
        self,
        command: str,
        folder: str,
        *,
        gpus_per_node: int,
        cpus_per_task: int,
        done_marker: str | None = None,
        owner: ProcessId | None = None,
        time_to_save_s: float = ranks.TERMINATE_S,
    ) -> None:
        """Describe the task; nothing runs yet.

        Args:
            command: a command line for bash.
            folder: the job's folder, which every node sees.
            gpus_per_node: 0 hides all GPUs from the command, unless Slurm gave it some.
            cpus_per_task: threads that numeric libraries may use, unless OMP_NUM_THREADS says otherwise.
            done_marker: file to create once the result is written; None: none.
            owner: process of this machine whose end also ends the job; None: none.
            time_to_save_s: on Slurm, from SIGTERM to SIGKILL when the time limit is near.
        """
        self.command = command
        self.folder = folder
        self.gpus_per_node = gpus_per_node
        self.cpus_per_task = cpus_per_task
        self.done_marker = done_marker
        self.owner = owner
        self.time_to_save_s = time_to_save_s
        self.requeues = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped_by: int | None = None
        self._on_slurm = False
        self._umask = -1

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to pickle, without the process of this attempt."""
        return vars(self) | {"_child": None, "_stopped_by": None}

    def __call__(self) -> int:
        """Run this rank; return 0, or exit so that Slurm records the job as failed."""
        import submitit

        environment = submitit.JobEnvironment()
        self._umask = os.umask(PRIVATE_UMASK)
        keep_log(environment.paths.stdout, Path(self.folder))
        self._on_slurm = environment.cluster == "slurm"
        restarts = os.environ.get("SLURM_RESTART_COUNT", "0") if self._on_slurm else "0"
        me = ranks.Member(
            folder=str(ranks.attempt_folder(Path(self.folder), environment.job_id, restarts, self.requeues)),
            rank=environment.global_rank,
            world_size=1 if self._on_slurm and "SLURM_STEP_ID" not in os.environ else environment.num_tasks,
            local_rank=environment.local_rank,
            node_rank=environment.node,
            num_nodes=environment.num_nodes,
        )
        make_folder(Path(me.folder))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        if self.owner is not None:
            threading.Thread(target=self._end_with_owner, daemon=True).start()
        self._set_environment(me)
        if me.rank > 0:
            return ranks.follow(me, self._umask)
        result = read_result(Path(self.folder))
        if result is None:  # otherwise a node failed after the end, and Slurm restarted the job
            result = self._lead(me, environment)
            self._write_result(result)
        if result["status"]:
            print(f"the command failed: {result.get('reason') or result['status']}", file=sys.stderr, flush=True)
            raise SystemExit(ranks.exit_status(result["status"]))
        return 0

    def checkpoint(self) -> Any:
        """Have the command save its state and end (called by submitit near the time limit); the requeued job starts it again."""
        from submitit.helpers import DelayedSubmission

        self._kill_child(signal.SIGTERM)
        self._wait_for_group(self.time_to_save_s if self._on_slurm else ranks.TERMINATE_S)
        self._kill_child(signal.SIGKILL)
        self.requeues += 1
        return DelayedSubmission(self)

    def _lead(self, me: ranks.Member, environment: Any) -> dict[str, Any]:
        """Run the command to its end and return the result; do not return while the job may be requeued."""
        from submitit.core.utils import UncompletedJobError

        result: dict[str, Any] = {"status": 1, "host": ranks.host()}
        try:
            result["status"] = self._run_command(me)
            if result["status"] and self._on_slurm:
                time.sleep(SIGNAL_SPREAD_S)
            failure = ranks.read_failure(me.folder)
            if failure is not None:
                result["failure"] = failure
            elif result["status"] and self._stopped_by is not None and self._on_slurm:
                self._hold()
        except UncompletedJobError:
            return result | {"status": 1, "state": "TIMEOUT", "reason": f"the time limit was reached {self.requeues} times"}
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return result | {"status": 1, "state": "TIMEOUT", "reason": self._requeue(environment.job_id)}
        return result

    def _set_environment(self, me: ranks.Member) -> None:
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        os.environ.setdefault("OMP_NUM_THREADS", str(self.cpus_per_task))
        os.environ.update(me.to_environment())
        if not self._has_gpus():
            os.environ["CUDA_VISIBLE_DEVICES"] = ""

    def _has_gpus(self) -> bool:
        return self.gpus_per_node > 0 or (self._on_slurm and are_gpus_given())

    def _run_command(self, me: ranks.Member) -> int:
        try:
            command = self._shell(Path(me.folder))
            if me.world_size > 1:
                ranks.note_environment(Path(me.folder))
            self._child = subprocess.Popen(command, start_new_session=True, preexec_fn=ranks.prepare_child, umask=self._umask)
            status = self._child.wait()
            if self._stopped_by is not None:
                self._wait_for_group()
        finally:
            (Path(me.folder) / ranks.END).touch()
        self._kill_child(signal.SIGKILL)  # processes that the command may have left behind
        return status

    def _shell(self, folder: Path) -> list[str]:
        """Return the arguments that run the command; a long one, as for a group of many jobs, is read from a file."""
        if len(self.command.encode()) < LONGEST_ARGUMENT:
            return ["bash", "-c", self.command]
        script = folder / "command.sh"
        write_file(script, self.command)
        return ["bash", str(script)]

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Pass a signal on; on Slurm, Slurm kills when its grace time is over."""
        self._stopped_by = number
        self._kill_child(signal.SIGTERM)
        if not self._on_slurm:
            signal.signal(signal.SIGALRM, lambda *_: self._kill_child(signal.SIGKILL))
            signal.setitimer(signal.ITIMER_REAL, LOCAL_TERMINATE_S)

    def _kill_child(self, number: int) -> None:
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, number)

    def _wait_for_group(self, seconds: float = math.inf) -> None:
        """Wait for all processes of the command, which were told to end: shells do so at once, programs after they have saved.

        Nothing is reaped, because the signal handler that calls this may have interrupted the wait that does.
        """
        deadline = time.monotonic() + seconds
        while self._child is not None and is_group_alive(self._child.pid) and time.monotonic() < deadline:
            time.sleep(ranks.POLL_S)

    def _end_with_owner(self) -> None:
        assert self.owner is not None
        while self.owner.is_alive():
            time.sleep(1)
        self._kill_child(signal.SIGKILL)
        os._exit(1)

    def _requeue(self, job_id: str) -> str:
        """Ask Slurm repeatedly for a requeue; return only if it refuses, with the reason."""
        deadline = time.monotonic() + REQUEUE_S
        while time.monotonic() < deadline:
            asked = subprocess.run(["scontrol", "requeue", job_id], capture_output=True, text=True)
            if asked.returncode == 0:
                self._hold()
            time.sleep(5)
        return f"the time limit was reached, and Slurm did not requeue the job: {asked.stderr.strip()}"

    def _hold(self) -> None:
        """Wait for Slurm to stop this job (preemption, scancel); write no result, or a requeued job would look finished."""
        deadline = time.monotonic() + HOLD_S
        while time.monotonic() < deadline:
            time.sleep(1)

    def _write_result(self, result: dict[str, Any]) -> None:
        try:
            write_json(Path(self.folder) / RESULT, result)
            if self.done_marker is not None:
                Path(self.done_marker).touch()
        except OSError as err:  # then only Slurm knows that the job has ended
            print(f"the result of the job cannot be written: {err}", file=sys.stderr, flush=True)
            raise SystemExit(1) from None
