"""What Slurm says about jobs, in one question for all of them. An answer that cannot be had is no answer: alive."""

import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass

ALIVE = frozenset(
    {
        "PENDING",
        "RUNNING",
        "COMPLETING",
        "CONFIGURING",
        "SUSPENDED",
        "REQUEUED",
        "REQUEUE_FED",
        "REQUEUE_HOLD",
        "RESIZING",
        "SIGNALING",
        "SPECIAL_EXIT",
        "STAGE_OUT",
        "STOPPED",
        "RESV_DEL_HOLD",
    }
)

HINTS = {
    "OUT_OF_MEMORY": "it needs more memory: raise mem_mb",
    "TIMEOUT": "it needs more time: raise runtime (in minutes)",
    "NODE_FAIL": "the node failed: run again",
    "PREEMPTED": "another job took its place: run again",
    "CANCELLED": "somebody cancelled it, or its node request cannot be met",
    "BOOT_FAIL": "the node did not start: run again",
    "DEADLINE": "its deadline passed",
}
CALL_TIMEOUT_S = 60


@dataclass(frozen=True)
class State:
    """What Slurm says of one job: its state (the first word), the reason, and its nodes."""

    name: str
    reason: str = ""
    nodes: str = ""

    @property
    def is_alive(self) -> bool:
        """Whether the job may still end well."""
        return self.name in ALIVE

    @property
    def hint(self) -> str:
        """What to do about it."""
        return HINTS.get(self.name, "")


class SlurmQueue:
    """Asks squeue for the living and sacct for those that squeue no longer knows."""

    def ask(self, job_ids: Collection[str]) -> dict[str, State] | None:
        """States of the jobs that Slurm knows; None when squeue gave no answer."""
        listing = _call(["squeue", "--me", "-h", "-t", "all", "-o", "%i|%T|%r|%N"])
        if listing is None:
            return None
        found = _parse(listing, job_ids)
        vanished = [job_id for job_id in job_ids if job_id not in found]
        return found | self._ask_accounting(vanished) if vanished else found

    def _ask_accounting(self, job_ids: Sequence[str]) -> dict[str, State]:
        listing = _call(["sacct", "-X", "-n", "-P", "-o", "JobID,State,Reason,NodeList", "-j", ",".join(job_ids)])
        return _parse(listing or "", job_ids)


def _call(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CALL_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _parse(listing: str, job_ids: Collection[str]) -> dict[str, State]:
    found = {}
    for line in listing.splitlines():
        job_id, _, rest = line.strip().partition("|")
        state, _, rest = rest.partition("|")
        reason, _, nodes = rest.partition("|")
        if job_id in job_ids and state:
            found[job_id] = State(state.split()[0].rstrip("+"), "" if reason == "None" else reason, nodes)
    return found


def cancel(job_ids: Sequence[str]) -> None:
    """Cancel jobs, 200 at a time."""
    for start in range(0, len(job_ids), 200):
        _call(["scancel", *job_ids[start : start + 200]])
