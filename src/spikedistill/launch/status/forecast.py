"""When stages, and the whole run, will be done: by their own rate, and before that by the estimate of their cost.

The estimate is off by a factor that differs between machines. Once some stages of a kind are done, those to come are expected to
be off by the same factor.
"""

from __future__ import annotations

import heapq
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from spikedistill.launch.status.files import Work
from spikedistill.launch.status.snapshot import StageStatus
from spikedistill.plan.estimate import Cost
from spikedistill.plan.stages import Spec

CostOf = Callable[[Spec], Cost]
LEAST_DONE = 3


class Estimates:
    """Estimated durations of stages, adjusted to those that are done."""

    def __init__(self, cost_of: CostOf) -> None:
        """Begin with the plain estimates.

        Args:
            cost_of: estimates the cost of a stage on the resources that it requests.
        """
        self._estimate = cost_of
        self._known: dict[str, Cost] = {}
        self._ratios: dict[str, list[float]] = {}

    def learn(self, spec: Spec, wall_s: float) -> None:
        """Take into account how long a stage took; call once for each that is done."""
        expected_s = 3600 * self._cost_of(spec).hours
        if expected_s > 0 and wall_s > 0:
            self._ratios.setdefault(spec.stage, []).append(wall_s / expected_s)

    def seconds(self, spec: Spec) -> float:
        """Return how long a stage takes, from its start to its end."""
        ratios = self._ratios.get(spec.stage, [])
        factor = statistics.median(ratios) if len(ratios) >= LEAST_DONE else 1.0
        return factor * 3600 * self._cost_of(spec).hours

    def gpus(self, spec: Spec) -> int:
        """Return how many GPUs a stage requests."""
        return self._cost_of(spec).gpus

    def _cost_of(self, spec: Spec) -> Cost:
        if spec.ref not in self._known:
            self._known[spec.ref] = self._estimate(spec)
        return self._known[spec.ref]


@dataclass(frozen=True)
class Left:
    """What is left of a stage.

    Attributes:
        seconds: once it runs; None if it takes longer than was expected, and nothing better is known.
        is_estimate: whether this comes from the estimate of its cost, not from its own rate.
    """

    seconds: float | None
    is_estimate: bool = True


def left_of(spec: Spec, work: Work, estimates: Estimates, *, runs: bool, now: float) -> Left:
    """Return what is left of a stage that is not done.

    Args:
        spec: the stage.
        work: its files.
        estimates: of the plan.
        runs: whether it runs now.
        now: seconds since the epoch.
    """
    progress = work.progress
    if progress is not None and progress.epoch_s is not None:
        begun = max(work.progress_at or now, work.started or 0.0)  # a stage that was resumed has not gone on from its note yet
        since_s = max(0.0, now - begun) if runs else 0.0
        return Left(max(0.0, (progress.epochs - progress.epoch - progress.part) * progress.epoch_s - since_s), is_estimate=False)
    expected_s = estimates.seconds(spec)
    if not runs or work.started is None:
        return Left(expected_s)
    rest_s = expected_s - max(0.0, now - work.started)
    return Left(rest_s if rest_s > 0 else None)


def end_of_run(
    stages: Sequence[StageStatus], upstream: Mapping[str, Iterable[str]], side_by_side: int, now: float
) -> float | None:
    """Return when all stages that can be done will be done, if as many run at a time as given; None if that is not known.

    Each place takes the stage that is ready first, as Snakemake's greedy scheduler roughly does.

    Args:
        stages: all of the plan, upstream first.
        upstream: references of the artifacts that each stage reads, by its own.
        side_by_side: number of places.
        now: seconds since the epoch.
    """
    todo = {each.ref: each for each in stages if each.state not in ("done", "blocked", "failed", "cancelled", "damaged")}
    if side_by_side < 1 or not todo:
        return None
    missing = {ref: {each for each in upstream[ref] if each in todo} for ref in todo}
    needed_by: dict[str, list[str]] = {}
    for ref, refs in missing.items():
        for each in refs:
            needed_by.setdefault(each, []).append(ref)
    places = [now] * side_by_side
    ready = [(_rank(todo[ref]), _earliest(todo[ref], now), i, ref) for i, ref in enumerate(todo) if not missing[ref]]
    heapq.heapify(ready)
    count, end = len(todo), now
    while ready:
        _, earliest, _, ref = heapq.heappop(ready)
        done = max(earliest, heapq.heappop(places)) + (todo[ref].left_s or 0.0)
        heapq.heappush(places, done)
        end = max(end, done)
        for each in needed_by.get(ref, []):
            missing[each].discard(ref)
            if not missing[each]:
                count += 1
                heapq.heappush(ready, (1, done, count, each))
    return end


def _rank(stage: StageStatus) -> int:
    """Return 0 for a stage that has its place already."""
    return 0 if stage.state in ("running", "starting") else 1


def _earliest(stage: StageStatus, now: float) -> float:
    """Return when a stage can start: not before Slurm expects its job to."""
    if stage.state == "pending" and stage.job and stage.job.start:
        return max(now, stage.job.start)
    return now
