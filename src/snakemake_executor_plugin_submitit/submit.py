"""Submit one command through submitit. The executor and single-job tools share this."""

import os
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_submitit import states
from snakemake_executor_plugin_submitit.resources import Request, parse_resources, slurm_parameters
from snakemake_executor_plugin_submitit.task import CommandTask, read_result

LOG_TAIL = 30
RESULT_GRACE_S = 20.0
FAILURE_GRACE_S = 2.0
TRANSIENT = (
    "socket timed out",
    "unable to contact slurm controller",
    "resource temporarily unavailable",
    "slurm temporarily unable to accept job",
    "slurmctld is not responding",
    "connection refused",
)
BACK_OFF_S = (5, 10, 20, 40, 80, 160)


class SubmittedJob:
    """A job that was submitted: where its files are, how it stands, how to end it."""

    def __init__(self, cluster: str, folder: Path, name: str, handle: Any) -> None:
        """Wrap submitit's job."""
        self.cluster = cluster
        self.folder = folder
        self.name = name
        self.job_id = str(handle.job_id)
        self._handle = handle
        self._ended_at: float | None = None
        self._grace_s = RESULT_GRACE_S

    @property
    def log_path(self) -> Path:
        """The log of rank 0, or of the first rank that failed."""
        failure = (read_result(self.folder) or {}).get("failure")
        return self.rank_log(int(failure["rank"]) if failure else 0)

    def rank_log(self, rank: int) -> Path:
        """The log of one rank."""
        return self.folder / f"{self.job_id}_{rank}_log.out"

    def state(self) -> str:
        """One word: Slurm's state, or RUNNING, COMPLETED or FAILED."""
        result = read_result(self.folder)
        if result is not None:
            return "COMPLETED" if result["status"] == 0 else "FAILED"
        if self.cluster == "local":
            return "RUNNING" if self._handle.state == "RUNNING" else "FAILED"
        answer = states.SlurmQueue().ask([self.job_id]) or {}
        return answer.get(self.job_id, states.State("UNKNOWN")).name

    def poll(self, state: states.State | None = None) -> int | None:
        """The exit status when the job has ended, else None.

        Args:
            state: what Slurm says of it, if asked.
        """
        result = read_result(self.folder)
        if result is not None:
            return int(result["status"])
        if self.cluster == "local":
            ended = self._handle.state != "RUNNING"
        elif state is not None:
            ended = not state.is_alive
        else:
            ended = self._ended_at is not None  # nobody asked, or no answer: as before
        if not ended:
            self._ended_at = None
            return None
        if self._ended_at is None:
            self._ended_at = time.monotonic()
            self._grace_s = RESULT_GRACE_S if state and state.name == "COMPLETED" else FAILURE_GRACE_S
        return 1 if time.monotonic() - self._ended_at > self._grace_s else None

    def wait(self, poll_s: float = 1.0) -> int:
        """Wait for the end; returns the exit status."""
        queue = states.SlurmQueue()
        while True:
            answer = {} if self.cluster == "local" else queue.ask([self.job_id]) or {}
            status = self.poll(answer.get(self.job_id))
            if status is not None:
                return status
            time.sleep(poll_s)

    def cancel(self) -> None:
        """End the job."""
        if self.cluster == "local":
            self._handle.cancel()
        else:
            states.cancel([self.job_id])

    def explain(self, state: states.State | None = None) -> str:
        """What a user needs to know of a job that failed: id, state, node, rank, log, and the log's last lines."""
        result = read_result(self.folder) or {}
        failure = result.get("failure") or {"host": result.get("host") or (state.nodes if state else "")}
        facts = [f"{self.name}: {self.cluster} job {self.job_id} failed"]
        if state and state.name not in ("COMPLETED", "FAILED"):
            facts.append(f"state {state.name}" + (f" ({state.reason})" if state.reason else ""))
        if "status" in result:
            facts.append(f"exit status {result['status']}")
        if "rank" in failure:
            facts.append(f"rank {failure['rank']} failed first")
        if failure.get("host"):
            facts.append(f"node {failure['host']}")
        lines = [", ".join(facts), f"log: {self.log_path}"]
        if state and state.hint:
            lines.append(f"hint: {state.hint}")
        return "\n".join([*lines, *_tail(self.log_path)])


def _tail(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ["(there is no log: the job did not start, or the node cannot write to this folder)"]
    return [f"last lines of {path.name}:", *(f"    {line}" for line in lines[-LOG_TAIL:])]


def submit(
    command: Sequence[str] | str,
    *,
    cluster: str,
    folder: Path,
    name: str,
    resources: Mapping[str, Any] | Request,
    comment: str = "",
    gpus: Sequence[int] = (),
) -> SubmittedJob:
    """Submit one command as a job.

    Args:
        command: a shell line, or a list of words. Begin it with `spmd` to have it run on every rank.
        cluster: "slurm" or "local".
        folder: where logs go, in a folder of their own by `name`.
        name: of the job.
        resources: by Snakemake's names.
        comment: kept by Slurm's accounting.
        gpus: on "local", the numbers of the GPUs to use; () with GPUs asked for: the first ones.

    Raises:
        WorkflowError: if a resource is not valid, or the job was refused; with Slurm's own words.
    """
    request = resources if isinstance(resources, Request) else parse_resources(resources)
    line = command if isinstance(command, str) else shlex.join(command)
    place = _new_folder(Path(folder).absolute(), name)
    task = CommandTask(line, str(place), gpus_per_node=request.gpus_per_node, cpus_per_task=request.cpus_per_task)
    executor = _slurm(place, request, name, comment) if cluster == "slurm" else _local(place, request, gpus)
    return SubmittedJob(cluster, place, name, _submit_patiently(executor, task))


def _new_folder(folder: Path, name: str) -> Path:
    safe = re.sub(r"[^A-Za-z0-9_.=,-]", "_", name)[:120] or "job"
    stamp = time.strftime("%Y%m%dT%H%M%S")
    for attempt in range(10_000):
        place = folder / safe / (f"{stamp}-{attempt}" if attempt else stamp)
        try:
            place.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as err:
            raise WorkflowError(f"{place}: the job's folder cannot be made: {err.strerror}") from err
        latest = place.parent / "latest"
        temporary = place.parent / f".latest-{os.getpid()}-{attempt}"
        temporary.symlink_to(place.name)
        temporary.replace(latest)
        return place
    raise WorkflowError(f"{folder / safe}: too many attempts in one second")


def _slurm(place: Path, request: Request, name: str, comment: str) -> Any:
    from submitit import SlurmExecutor

    try:
        executor = SlurmExecutor(folder=place, max_num_timeout=request.max_requeues)
    except RuntimeError as err:
        raise WorkflowError(f"Slurm's sbatch is not on this machine ({err}); use cluster local, or a login node") from err
    executor.update_parameters(**slurm_parameters(request, name=name, comment=comment, folder=place))
    return executor


def _local(place: Path, request: Request, gpus: Sequence[int]) -> Any:
    from submitit import LocalExecutor

    executor = LocalExecutor(folder=place, max_num_timeout=0)
    num_gpus = request.nodes * request.gpus_per_node
    executor.update_parameters(
        timeout_min=request.runtime_min,
        tasks_per_node=request.num_tasks,
        gpus_per_node=num_gpus,
        visible_gpus=tuple(gpus) or tuple(range(num_gpus)),
        stderr_to_stdout=True,
        signal_delay_s=10,
    )
    return executor


def _submit_patiently(executor: Any, task: CommandTask) -> Any:
    from submitit.core.utils import FailedJobError

    for pause_s in (*BACK_OFF_S, None):
        try:
            return executor.submit(task)
        except (FailedJobError, OSError) as err:
            text = str(err).strip()
            if pause_s is None or not any(sign in text.lower() for sign in TRANSIENT):
                raise WorkflowError(f"the job was refused: {text}") from err
            time.sleep(pause_s)
    raise AssertionError("unreachable")
