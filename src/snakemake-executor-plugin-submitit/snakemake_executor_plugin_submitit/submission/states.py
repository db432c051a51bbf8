"""Query the states of all jobs in one call; if Slurm does not answer, jobs count as alive."""

import contextlib
import re
import subprocess
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from snakemake_executor_plugin_submitit.submission.commands import query_environment

# any other state, such as one of a later Slurm, means that the job may go on: taking it for the end would run the job twice
FINAL = frozenset(
    {
        "COMPLETED",
        "FAILED",
        "CANCELLED",
        "TIMEOUT",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "NODE_FAIL",
        "BOOT_FAIL",
        "DEADLINE",
    }
)
# the job was fine but lost its nodes: it may be submitted again
LOST_PLACE = frozenset({"PREEMPTED", "NODE_FAIL", "BOOT_FAIL"})

HINTS = {
    "OUT_OF_MEMORY": "it needs more memory: raise mem_mb",
    "TIMEOUT": "it needs more time: raise runtime (in minutes)",
    "NODE_FAIL": "the node failed: run again",
    "PREEMPTED": "another job took its nodes: run again",
    "CANCELLED": "somebody cancelled it, or its node request cannot be met",
    "BOOT_FAIL": "the node did not start: run again",
    "DEADLINE": "its deadline passed",
}
# pending reasons that remain when other jobs end: the job will not start as it is
UNSATISFIABLE_REASONS = re.compile(
    "PartitionNodeLimit|PartitionTimeLimit|BadConstraints|Invalid|NotAllowed|NeverSatisfied|PerJob|MaxMemPerLimit|PartitionConfig"
)
FIRST_PAUSE_S = 2.0  # between two queries; it grows while jobs only wait or run
PAUSE_GROWTH = 1.5
CALL_TIMEOUT_S = 60
CANCEL_CHUNK = 200
QUERY_CHUNK = 1000  # ids in one argument, which the kernel limits to 128 KiB
_TASKS = re.compile(r"(\d+)(?:-(\d+)(?::([1-9]\d*))?)?")  # of an array: 1, 1-5 or 1-5:2
NO_ACCOUNTING = "accounting storage is disabled"


@dataclass(frozen=True)
class State:
    """The state of one job in Slurm (its first word), the reason, and the nodes."""

    name: str
    reason: str = ""
    nodes: str = ""

    @property
    def is_alive(self) -> bool:
        """Return True if the job may still succeed."""
        return self.name not in FINAL

    @property
    def is_held(self) -> bool:
        """Return True if the job waits for somebody to release it."""
        return self.is_alive and "held" in self.reason.lower()

    @property
    def hint(self) -> str:
        """Return advice for the user; empty if there is none."""
        return HINTS.get(self.name, "")


class SlurmQueue:
    """Query squeue, and sacct for the jobs that squeue no longer knows. Thread-safe."""

    def __init__(self) -> None:
        """Create without querying anything yet."""
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = threading.Event()

    def query(self, job_ids: Collection[str]) -> dict[str, State] | None:
        """Return the states of the jobs that Slurm knows, or None if squeue does not answer.

        A job that squeue does not know is UNKNOWN if sacct does not answer.
        """
        listing, _ = self._call(["squeue", "--me", "-h", "-r", "-t", "all", "-o", "%i|%T|%r|%N"])
        if listing is None:
            return None
        found = _parse(listing, job_ids)
        vanished = [job_id for job_id in job_ids if job_id not in found]
        return found | self._query_accounting(vanished) if vanished else found

    def stop(self) -> None:
        """Kill the queries that are under way, and start no more."""
        self._stopped.set()
        for running in list(self._running):
            with contextlib.suppress(ProcessLookupError):
                running.kill()

    def _query_accounting(self, job_ids: Sequence[str]) -> dict[str, State]:
        found: dict[str, State] = {}
        for start in range(0, len(job_ids), QUERY_CHUNK):
            chunk = job_ids[start : start + QUERY_CHUNK]
            listing, error = self._call(["sacct", "-X", "-n", "-P", "-o", "JobID,State,Reason,NodeList", "-j", ",".join(chunk)])
            if listing is not None:
                found |= _parse(listing, chunk)
            elif NO_ACCOUNTING not in error:
                found |= {job_id: State("UNKNOWN", "no answer from sacct") for job_id in chunk}
        return found

    def _call(self, command: list[str]) -> tuple[str | None, str]:
        """Return the output, None if the command failed, and its error text."""
        if self._stopped.is_set():
            return None, ""
        try:
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", env=query_environment()
            ) as process:
                self._running.add(process)
                try:
                    output, error = process.communicate(timeout=CALL_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    return None, ""
                finally:
                    self._running.discard(process)
                return (output if process.returncode == 0 else None), error
        except FileNotFoundError:
            return None, NO_ACCOUNTING if command[0] == "sacct" else ""
        except OSError:  # too many processes or open files at the moment
            return None, ""


def _parse(listing: str, job_ids: Collection[str]) -> dict[str, State]:
    wanted, found = set(job_ids), {}
    for line in listing.splitlines():
        job_id, _, rest = line.strip().partition("|")
        state, _, rest = rest.partition("|")
        reason, _, nodes = rest.partition("|")
        for each in _expand(job_id) if state else ():
            if each in wanted:
                found[each] = State(state.split()[0].rstrip("+"), "" if reason == "None" else reason, nodes)
    return found


def _expand(job_id: str) -> Iterable[str]:
    """Yield the ids of the tasks that share a line, such as those that were cancelled before they started: 8_[1,3-9:2%2]."""
    array, bracket, tasks = job_id.partition("_[")
    if not bracket:
        yield job_id
        return
    for part in tasks.partition("]")[0].partition("%")[0].split(","):
        if found := _TASKS.fullmatch(part):
            first, last, step = int(found[1]), int(found[2] or found[1]), int(found[3] or 1)
            yield from (f"{array}_{index}" for index in range(first, last + 1, step))


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=CALL_TIMEOUT_S, env=query_environment()
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def failed_nodes(state: State) -> tuple[str, ...]:
    """Return the nodes to avoid after NODE_FAIL or BOOT_FAIL: the job's only one, or those of its nodes that are not up."""
    if state.name not in ("NODE_FAIL", "BOOT_FAIL") or not state.nodes:
        return ()
    if not re.search(r"[\[,]", state.nodes):
        return (state.nodes,)
    listing = _output(["sinfo", "-h", "-N", "-n", state.nodes, "-o", "%N|%T"])
    nodes = dict(line.strip().split("|", 1) for line in listing.splitlines() if "|" in line)
    return tuple(sorted(node for node, name in nodes.items() if re.match(r"down|drain|fail|error", name) or name.endswith("*")))


def exit_signal(job_id: str) -> int:
    """Return the signal by which a job's task was killed; 0 if it was not, or Slurm does not know."""
    found = re.search(r"\bExitCode=\d+:(\d+)", _output(["scontrol", "show", "job", job_id]))
    if found is None:
        found = re.search(r"^\d+:(\d+)", _output(["sacct", "-X", "-n", "-P", "-o", "ExitCode", "-j", job_id]))
    return int(found[1]) if found else 0


def release(job_ids: Sequence[str]) -> None:
    """Release held jobs."""
    for start in range(0, len(job_ids), CANCEL_CHUNK):
        _output(["scontrol", "release", ",".join(job_ids[start : start + CANCEL_CHUNK])])


def cancel(job_ids: Iterable[str], *options: str) -> list[str]:
    """Cancel jobs, 200 per call, a whole array by its own id; return the ids for which scancel failed twice.

    `options` of scancel restrict which of them, as `--state=PENDING` does.
    """
    failed = []
    ids = list(dict.fromkeys(job_ids))
    for start in range(0, len(ids), CANCEL_CHUNK):
        chunk = ids[start : start + CANCEL_CHUNK]
        if not (_scancel([*options, *chunk]) or _scancel([*options, *chunk])):
            failed += chunk
    return failed


def _scancel(arguments: Sequence[str]) -> bool:
    try:
        done = subprocess.run(
            ["scancel", *arguments], capture_output=True, text=True, timeout=CALL_TIMEOUT_S, env=query_environment()
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 or "Invalid job id" in done.stderr
