"""A snapshot of a run: every stage of a plan, the totals, and whatever else its reader must know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from spikedistill.launch.jobs.find import Found
from spikedistill.launch.jobs.job import Job
from spikedistill.launch.jobs.mains import MainProcess

State = Literal[
    "running", "starting", "pending", "failed", "cancelled", "interrupted", "damaged", "ready", "waiting", "blocked", "done"
]
STATES: tuple[State, ...] = (
    *("running", "starting", "pending", "failed", "cancelled", "interrupted", "damaged"),
    *("ready", "waiting", "blocked", "done"),
)
"""All states, in the order in which a reader wants to see them: what is running, what went wrong, what is to come, what is done.

`starting` has a job but has not begun, `ready` has all that it needs but no job, `waiting` needs artifacts that are not there
yet, `blocked` needs one whose stage failed or was cancelled.
"""


@dataclass(frozen=True)
class Progress:
    """How far a training is: at the end of its last whole epoch, and within the next one if that takes long.

    A preparation of data counts as one epoch.

    Attributes:
        epoch: number of whole epochs that are done.
        epochs: of all.
        part: share of the next epoch that is done, from 0 to 1, as last noted.
        epoch_s: seconds that an epoch takes, a mean over the last ones; None if not measured.
        loss: of training.
        accuracy: on the training split, in percent.
        validation: accuracy on the validation split, in percent; None if there is none.
        samples_per_s: over all ranks.
        unit: "epochs"; of a preparation what it counts, such as "images".
    """

    epoch: int
    epochs: int
    part: float = 0.0
    epoch_s: float | None = None
    loss: float | None = None
    accuracy: float | None = None
    validation: float | None = None
    samples_per_s: float | None = None
    unit: str = "epochs"


@dataclass(frozen=True)
class StageStatus:
    """A stage at one moment.

    Attributes:
        ref: reference of its artifact.
        stage: its name.
        state: its state in one word.
        said: its state in words, with the reason.
        job: the job that is at it, if any is known.
        host: where it runs or ran.
        starts: how often it was started, the present run included.
        restarts: how often its job was requeued.
        progress: of a training or a preparation, if it has begun.
        left_s: seconds until it is done, once it runs; None: not known, or nothing left.
        is_estimate: whether `left_s` comes from the estimate of its cost instead of its own rate.
        gpu_hours: GPU-hours that it has used; those of an earlier attempt are not known.
        gpu_hours_left: GPU-hours that it will still use.
    """

    ref: str
    stage: str
    state: State
    said: str
    job: Job | None = None
    host: str = ""
    starts: int = 0
    restarts: int = 0
    progress: Progress | None = None
    left_s: float | None = None
    is_estimate: bool = True
    gpu_hours: float = 0.0
    gpu_hours_left: float = 0.0

    @property
    def name(self) -> str:
        """Return the name of its artifact."""
        return self.ref.partition("/")[2]


@dataclass(frozen=True)
class Totals:
    """A whole run at one moment.

    Attributes:
        counts: number of stages in each state that occurs.
        gpu_hours: used by stages that are done or run.
        gpu_hours_left: to come, estimated; stages that are blocked do not count.
        end: when the run will end, in seconds since the epoch; None if nothing is under way.
        side_by_side: number of stages that this expects to run at a time.
    """

    counts: dict[State, int]
    gpu_hours: float
    gpu_hours_left: float
    end: float | None
    side_by_side: int


@dataclass(frozen=True)
class Snapshot:
    """A plan at one moment.

    Attributes:
        time: when, in seconds since the epoch.
        stages: all of them, in the order of the plan.
        totals: of the run.
        stale: jobs that are alive although the plan does not have their stages.
        of_other_runs: such jobs of a Snakemake process that runs here with another configuration.
        others: other jobs of this working directory.
        mains: Snakemake processes that run here.
        problem: why jobs are not known, or not as of now; empty if they are.
    """

    time: float
    stages: tuple[StageStatus, ...]
    totals: Totals
    stale: Sequence[Found] = ()
    of_other_runs: Sequence[Found] = ()
    others: Sequence[Found] = ()
    mains: Sequence[MainProcess] = ()
    problem: str = ""
