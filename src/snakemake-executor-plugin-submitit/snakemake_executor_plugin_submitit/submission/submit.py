"""Submit commands through submitit, one by one or as an array; shared by the executor and tools for single jobs."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_submitit.job.ranks import describe_failure
from snakemake_executor_plugin_submitit.job.task import CommandTask
from snakemake_executor_plugin_submitit.jsonfile import read_result
from snakemake_executor_plugin_submitit.private import FILE_MODE, FOLDER_MODE, make_folder, own_folder
from snakemake_executor_plugin_submitit.processes import ProcessId, signal_name
from snakemake_executor_plugin_submitit.request.resources import Request, parse_resources, time_to_save_s
from snakemake_executor_plugin_submitit.submission import states
from snakemake_executor_plugin_submitit.submission.capacity import missing_gpus
from snakemake_executor_plugin_submitit.submission.commands import BusyError, LimitError, RefusedError
from snakemake_executor_plugin_submitit.submission.held import HeldJobs
from snakemake_executor_plugin_submitit.worker.tickets import done_marker

LOG_TAIL = 30
LOG_TAIL_BYTES = 64 * 1024  # logs may be huge
LONGEST_LINE = 1000
RESULT_GRACE_S = 20.0
FAILURE_GRACE_S = 2.0
LONGEST_PAUSE_S = 20.0
TRANSIENT = (
    "socket timed out",
    "unable to contact slurm controller",
    "resource temporarily unavailable",
    "slurm temporarily unable to accept job",
    "slurmctld is not responding",
    "connection refused",
    "connection timed out",
    "zero bytes were transmitted or received",
)
LIMIT = "submitjob"  # in the name of each limit on submitted jobs: there is room once others have ended
# as worded by Snakemake, by Python, by a shell
SAYS_KILLED = re.compile(r"exit (code|status) 137|Signals\.SIGKILL|^.*: line \d+: +\d+ Killed ", re.MULTILINE)
OUT_OF_MEMORY = ("oom-kill", "oom_kill", "out of memory", "exceeded memory limit", "exceeded job memory limit")
BACK_OFF_S = (5, 10, 20, 40, 80, 160)
ARRAYS = "arrays"
ATTEMPT = re.compile("[0-9]{8}T[0-9]{6}(-[0-9]+)?")  # names of job folders, see `new_job_folder`
DONE_DIR = "ended"  # holds one empty file, the done marker, for each job that has written its result
LOST_S = 120.0  # a job that has been missing from Slurm's answers for this long is lost
MIN_FREE_BYTES = 64 * 1024
START_OF_ATTEMPT = "Starting with JobEnvironment"


class SubmittedJob:
    """A submitted job: find its files, follow its state, cancel it."""

    def __init__(
        self,
        cluster: str,
        folder: Path,
        name: str,
        job_id: str,
        handle: Any = None,
        *,
        mem_mb: int | None = None,
        logs: Path | None = None,
    ) -> None:
        """Describe a job.

        Args:
            cluster: "slurm", "local", or "allocation".
            folder: its own folder.
            name: its name.
            job_id: its id.
            handle: submitit's job object; required for jobs that are not Slurm's.
            mem_mb: the memory that it requested.
            logs: the folder of its logs, which are linked into its own once its task has started; None: its own.
        """
        self.cluster = cluster
        self.folder = folder
        self.name = name
        self.job_id = job_id
        self.mem_mb = mem_mb
        self._handle = handle
        self._logs = folder if logs is None else logs
        self._ended_at: float | None = None
        self._looks = 0
        self._missing_since: float | None = None

    @property
    def handle(self) -> Any:
        """Return submitit's job object; None if there is none."""
        return self._handle

    @property
    def log_path(self) -> Path:
        """Return the log of rank 0, or of the first rank that failed."""
        return self.rank_log(int(self._failure().get("rank", 0)))

    def _failure(self) -> dict[str, Any]:
        """Return the rank that failed first, with its node and how it failed; empty if unknown."""
        result = read_result(self.folder)
        if result is None:
            return _failure_by_srun(self.rank_log(0))
        failure: dict[str, Any] = result.get("failure") or {}
        return failure

    def rank_log(self, rank: int) -> Path:
        """Return the log of one rank."""
        linked = self.folder / f"{self.job_id}_{rank}_log.out"
        return linked if linked.exists() else self._logs / linked.name

    def state(self) -> str:
        """Return the state in one word: Slurm's, or RUNNING, COMPLETED or FAILED."""
        result = read_result(self.folder)
        if result is not None:
            return "COMPLETED" if result["status"] == 0 else "FAILED"
        if self.cluster != "slurm":
            return "RUNNING" if self._is_running_here() else "FAILED"
        answer = states.SlurmQueue().query([self.job_id]) or {}
        return answer.get(self.job_id, states.State("UNKNOWN")).name

    def _is_running_here(self) -> bool:
        return self._handle is not None and self._handle.state == "RUNNING"

    def poll(self, state: states.State | None = None, *, look: bool = True) -> int | None:
        """Return the exit status if the job has ended, else None.

        A final Slurm state without a result file must be seen twice; a requeued job may show one briefly.

        Args:
            state: the job's state in Slurm, if queried.
            look: check for a result even if nothing indicates that the job has ended.
        """
        if self.cluster != "slurm":
            ended: bool | None = not self._is_running_here()
        else:
            ended = None if state is None else not state.is_alive
        result = read_result(self.folder) if look or ended or self._ended_at is not None else None
        if result is not None:
            return int(result["status"])
        if ended is None:
            return None
        if not ended:
            self._ended_at, self._looks = None, 0
            return None
        now = time.monotonic()
        self._ended_at = self._ended_at or now
        self._looks += 1
        grace_s = RESULT_GRACE_S if state and state.name == "COMPLETED" else FAILURE_GRACE_S
        return 1 if self._looks > 1 and now - self._ended_at >= 0.9 * grace_s else None

    def is_lost(self, state: states.State | None) -> bool:
        """Record if Slurm's latest answer includes the job; return True if it has been missing from answers for too long."""
        if state is not None:
            self._missing_since = None
            return False
        now = time.monotonic()
        self._missing_since = now if self._missing_since is None else self._missing_since
        return now - self._missing_since > LOST_S

    def wait(self, poll_s: float = 1.0) -> int:
        """Wait for the end and return the exit status; check for the result every `poll_s` seconds, query Slurm rarely."""
        queue, held = states.SlurmQueue(), HeldJobs()
        next_query, pause_s = 0.0, states.FIRST_PAUSE_S
        while True:
            state, lost = None, False
            if self.cluster == "slurm" and time.monotonic() >= next_query:
                answers = queue.query([self.job_id])
                state = (answers or {}).get(self.job_id)
                for text in held.handle({self.job_id: self.name}, answers or {}):
                    _print_warning(text)
                gone = answers is not None and (state is None or not state.is_alive)
                pause_s = states.FIRST_PAUSE_S if gone else min(LONGEST_PAUSE_S, states.PAUSE_GROWTH * pause_s)
                next_query = time.monotonic() + pause_s
                lost = answers is not None and self.is_lost(state)
            status = self.poll(state)
            if status is not None or lost:
                return 1 if status is None else status
            time.sleep(poll_s)

    def _killed_by(self, result: dict[str, Any], state: states.State | None, tail: Sequence[str]) -> int:
        """Return the signal that killed the task or its command, or 0."""
        if "status" not in result:
            is_failed = state is not None and state.name == "FAILED" and "rank" not in self._failure()
            return states.exit_signal(self.job_id) if self.cluster == "slurm" and is_failed else 0
        if result["status"] < 0:
            return -int(result["status"])
        return int(signal.SIGKILL) if SAYS_KILLED.search("\n".join(tail)) else 0

    def cancel(self) -> None:
        """Cancel the job."""
        if self.cluster != "slurm":
            if self._handle is not None:
                self._handle.cancel()
        else:
            states.cancel([self.job_id])

    def explain(self, state: states.State | None = None) -> str:
        """Describe a failed job for the user: id, state, node, rank, log, hints, and the log's last lines."""
        result = read_result(self.folder) or {}
        failure = self._failure() or {"host": result.get("host") or (state.nodes if state else "")}
        tail = _tail(self.log_path)
        if "state" in result:
            state = states.State(result["state"], result["reason"], failure.get("host", ""))
        elif (state is None or state.is_alive or state.name == "FAILED") and _says_out_of_memory(tail):
            state = states.State("OUT_OF_MEMORY", "according to the log")
        killed_by = self._killed_by(result, state, tail)
        lines = [", ".join(self._facts(result, failure, state, killed_by)), f"log: {self.log_path}"]
        if state and state.hint:
            lines.append(f"hint: {state.hint}")
        elif killed_by == signal.SIGKILL:
            asked = "no mem_mb was requested" if self.mem_mb is None else f"{self.mem_mb} MB were requested (mem_mb)"
            lines.append(f"hint: SIGKILL often means out of memory: {asked}")
        if _is_disk_full(self.folder):
            lines.append(f"hint: no space is left on the disk of {self.folder}")
        return "\n".join([*lines, *tail])

    def _facts(
        self, result: dict[str, Any], failure: dict[str, Any], state: states.State | None, killed_by: int
    ) -> Iterator[str]:
        yield f"{self.name}: {self.cluster} job {self.job_id} failed"
        if state and not state.is_alive and state.name not in ("COMPLETED", "FAILED"):
            yield f"state {state.name}" + (f" ({state.reason})" if state.reason else "")
        if result.get("status", -1) >= 0:
            yield f"exit status {result['status']}"
        if killed_by:
            yield f"killed by {signal_name(killed_by)}"
        if "rank" in failure:
            yield f"rank {failure['rank']} failed first ({describe_failure(failure)})"
        if failure.get("host"):
            yield f"node {failure['host']}"


def _is_disk_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < MIN_FREE_BYTES
    except OSError:
        return False


def _says_out_of_memory(lines: Sequence[str]) -> bool:
    return any(sign in "\n".join(lines).lower() for sign in OUT_OF_MEMORY)


def log_says_out_of_memory(path: Path) -> bool:
    """Return True if the end of a log says that memory ran out."""
    return _says_out_of_memory(_tail(path))


def _failure_by_srun(log: Path) -> dict[str, Any]:
    """Return the rank for which srun ended the job, according to the log of rank 0; empty if srun reports none."""
    try:
        attempt = _read_end(log).rpartition(START_OF_ATTEMPT)[2]
    except OSError:
        return {}
    found = re.search(r"^srun: error: (\S+): tasks? (\d+)\S*: (.+)$", attempt, re.MULTILINE)
    return {"host": found[1], "rank": int(found[2]), "how": found[3].lower()} if found else {}


def _tail(path: Path) -> list[str]:
    try:
        lines = _read_end(path).splitlines()
    except OSError:
        return ["(there is no log: the job did not start, or the node cannot write to this folder)"]
    return [f"last lines of {path.name}:", *(f"    {line[:LONGEST_LINE]}" for line in lines[-LOG_TAIL:])]


def _read_end(path: Path) -> str:
    """Return the end of a text file, from the start of a line if there is one."""
    with path.open("rb") as file:
        skipped = max(0, os.fstat(file.fileno()).st_size - LOG_TAIL_BYTES)
        file.seek(skipped)
        text = file.read(LOG_TAIL_BYTES).decode("utf-8", errors="replace")
    _, _, rest = text.partition("\n")
    return rest if skipped and rest else text


@dataclass(frozen=True)
class Plan:
    """A job that is ready to be submitted: its name, its folder, and its task, which submitit pickles and calls."""

    name: str
    job_dir: Path
    task: Callable[[], int]


def plan(
    command: str,
    *,
    folder: Path,
    name: str,
    request: Request,
    done_dir: Path | None = None,
    owner: ProcessId | None = None,
) -> Plan:
    """Create the folder of a job, named by `name` and time.

    Args:
        command: a shell command line.
        folder: parent of the job's folder.
        name: the job's name.
        request: the resources of the job.
        done_dir: folder in which the job creates its done marker; None: it creates none.
        owner: process whose end also ends a local job.

    Raises:
        WorkflowError: if the folder cannot be created.
    """
    job_dir = new_job_folder(folder, name)
    marker = None if done_dir is None else str(done_dir / done_marker(job_dir))
    per_node, cpus = request.gpus_per_node, request.cpus_per_task
    task = CommandTask(
        command,
        str(job_dir),
        gpus_per_node=per_node,
        cpus_per_task=cpus,
        done_marker=marker,
        owner=owner,
        time_to_save_s=time_to_save_s(request.runtime_min),
    )
    return Plan(name, job_dir, task)


def safe_name(name: str) -> str:
    """Return a job's name in a form that Slurm and file systems accept."""
    return re.sub(r"[^A-Za-z0-9_.=,-]", "_", name)[:120] or "job"


def array_folder(folder: Path) -> Path:
    """Create a folder for the submission files and logs of an array."""
    return new_job_folder(folder, ARRAYS)


def without_nodes(request: Request, nodes: Collection[str]) -> Request:
    """Return a request that also avoids these nodes."""
    if not nodes:
        return request
    avoided = ",".join(str(each) for each in [request.sbatch.get("exclude"), *sorted(nodes)] if each)
    return replace(request, sbatch=request.sbatch | {"exclude": avoided})


def _print_warning(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def send(
    plans: Sequence[Plan],
    *,
    cluster: str,
    folder: Path,
    request: Request,
    name: str,
    comment: str = "",
    gpus: Sequence[int] = (),
    warn: Callable[[str], None] = _print_warning,
) -> list[SubmittedJob]:
    """Submit jobs with equal requests, several as one array.

    Args:
        plans: the jobs.
        cluster: "slurm"; or with one job at a time, "local" or "allocation".
        folder: folder of submission files and logs: the job's own, or the array's.
        request: the resources of each job.
        name: name shown by squeue.
        comment: comment stored in Slurm's accounting.
        gpus: on "local", the indices of the GPUs to use; (): the first ones, if GPUs are requested.
        warn: shows the user a warning.

    Raises:
        BusyError: if Slurm may accept the same submission later.
        WorkflowError: if a resource is invalid or the job was refused, with Slurm's own words.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    if cluster == "slurm":
        from snakemake_executor_plugin_submitit.submission.slurm_executor import slurm_executor

        if shortage := missing_gpus(request):
            warn(f"{name}: {shortage}")
        executor: Any = slurm_executor(folder, request, name=name, comment=comment, count=len(plans), warn=warn)
    elif cluster == "allocation":
        from snakemake_executor_plugin_submitit.submission.step_executor import step_executor

        executor = step_executor(folder, request)
    else:
        from snakemake_executor_plugin_submitit.submission.local_executor import local_executor

        executor = local_executor(folder, request, gpus)
    try:
        if len(plans) == 1:
            handles = [executor.submit(plans[0].task)]
        else:
            with executor.batch():
                handles = [executor.submit(each.task) for each in plans]
    except BusyError:
        _remove_unsubmitted(folder)
        raise
    except (RefusedError, FailedJobError, FailedSubmissionError, OSError) as err:
        _remove_unsubmitted(folder)
        text = str(err).strip() or type(err).__name__
        if LIMIT in text.lower():
            raise LimitError(text) from err
        if any(sign in text.lower() for sign in TRANSIENT):
            raise BusyError(text) from err
        raise WorkflowError(f"the job was refused: {text}") from err
    for file in folder.glob("*.pkl"):  # submitit's local executor creates them by the umask
        with contextlib.suppress(OSError):  # the job is submitted, and its folder is private
            file.chmod(FILE_MODE)
    return [
        SubmittedJob(cluster, each.job_dir, each.name, str(handle.job_id), handle, mem_mb=request.mem_mb, logs=folder)
        for each, handle in zip(plans, handles, strict=True)
    ]


def submit(
    command: Sequence[str] | str,
    *,
    cluster: str,
    folder: Path,
    name: str,
    resources: Mapping[str, Any] | Request,
) -> SubmittedJob:
    """Submit one command as a job; retry for some minutes while Slurm is busy.

    Args:
        command: a shell command line, or a list of words. Begin it with `spmd` to run it on every rank.
        cluster: "slurm" or "local".
        folder: parent of the job's folder, which holds the logs.
        name: the job's name.
        resources: values by Snakemake's names.

    Raises:
        WorkflowError: if a resource is invalid or the job was refused, with Slurm's own words.
    """
    request = resources if isinstance(resources, Request) else parse_resources(resources)
    line = command if isinstance(command, str) else shlex.join(command)
    job = plan(line, folder=own_job_folder(Path(folder)), name=name, request=request)

    def send_one() -> SubmittedJob:
        return send([job], cluster=cluster, folder=job.job_dir, request=request, name=name)[0]

    return _with_retries(send_one)


def _with_retries(send_one: Callable[[], SubmittedJob]) -> SubmittedJob:
    for pause_s in BACK_OFF_S:
        try:
            return send_one()
        except BusyError:
            time.sleep(pause_s)
    try:
        return send_one()
    except BusyError as err:
        raise WorkflowError(f"the job was refused: {err}") from err


def own_job_folder(folder: Path) -> Path:
    """Return the absolute path of the folder for this user's jobs: the given one, or a subfolder if it is another user's.

    Raises:
        WorkflowError: if the subfolder cannot be created.
    """
    folder = folder.absolute()
    try:
        return own_folder(folder)
    except OSError as err:
        raise WorkflowError(
            f"{folder}: it belongs to another user, and a subfolder for this one cannot be created ({err.strerror}); job folders "
            "are private: use another folder (--submitit-folder), or let its owner share it with: chmod 3770"
        ) from err


def new_job_folder(folder: Path, name: str) -> Path:
    """Create the folder of a job, named by `name` and time.

    Raises:
        WorkflowError: if it cannot be created.
    """
    safe = safe_name(name)
    stamp = time.strftime("%Y%m%dT%H%M%S")
    for attempt in range(10_000):
        job_dir = folder / safe / (f"{stamp}-{attempt}" if attempt else stamp)
        latest = job_dir.parent / "latest"
        temporary = job_dir.parent / f".latest-{os.getpid()}-{attempt}"
        try:
            make_folder(job_dir.parent)
            job_dir.mkdir(mode=FOLDER_MODE)
            temporary.symlink_to(job_dir.name)
            temporary.replace(latest)
        except FileExistsError:
            continue
        except OSError as err:
            raise WorkflowError(f"{job_dir}: cannot create the job's folder: {err.strerror}") from err
        return job_dir
    raise WorkflowError(f"{folder / safe}: too many attempts in one second")


def _remove_unsubmitted(folder: Path) -> None:
    for left in (*folder.glob("*.pkl"), *folder.glob(".submission_file_*")):
        left.unlink(missing_ok=True)
