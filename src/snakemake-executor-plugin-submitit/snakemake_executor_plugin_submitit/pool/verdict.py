"""What happens to the jobs that a worker held when it died: the rules for single jobs, applied to several at once."""

from enum import Enum

from snakemake_executor_plugin_submitit.submission import states

MAX_AGAIN = 5  # as often as a single job that loses its place


class Verdict(Enum):
    """What happens to a ticket of a dead worker."""

    FAILED = "failed"
    AGAIN = "again"
    ALONE = "alone"


def judge(state: states.State | None, *, held: int, again: int) -> Verdict:
    """Decide about one ticket.

    If a worker lost its place, or reached its own time limit, its jobs are not to blame. If somebody cancelled it, the jobs that
    it ran have failed. If it died otherwise (killed, out of memory), its only job is to blame; if it ran several, each runs
    again by itself, and is to blame if that happens again.

    Args:
        state: the worker's final state in Slurm; None: it ran on this machine, or the state is unknown.
        held: how many jobs it held.
        again: how often this job has been started again through no fault of its own.
    """
    if again >= MAX_AGAIN:
        return Verdict.FAILED
    name = state.name if state is not None else ""
    if name in states.LOST_PLACE or name == "TIMEOUT":
        return Verdict.AGAIN
    if name == "CANCELLED" or held < 2:
        return Verdict.FAILED
    return Verdict.ALONE
