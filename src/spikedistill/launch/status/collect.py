"""Collect a snapshot: the store's files, one squeue, and the plan's estimates, put together.

Nothing here needs Snakemake's main process, or changes anything: any login node that sees the files will do.
"""

from __future__ import annotations

import collections
import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spikedistill.launch.jobs.attempts import Attempts
from spikedistill.launch.jobs.find import FoundJobs, JobFinder, job_folders
from spikedistill.launch.jobs.mains import main_processes, of_other_runs
from spikedistill.launch.status import words
from spikedistill.launch.status.done import DoneStages, Made, names_in
from spikedistill.launch.status.files import Work, WorkReader, printable, schedule_of
from spikedistill.launch.status.forecast import CostOf, Estimates, end_of_run, left_of
from spikedistill.launch.status.snapshot import STATES, Snapshot, StageStatus, State, Totals
from spikedistill.launch.status.state import Evidence, state_of
from spikedistill.plan.build import Plan
from spikedistill.plan.stages import Spec
from spikedistill.store.artifacts import Store

AT_WORK: frozenset[State] = frozenset({"running", "starting"})
BROKEN: frozenset[State] = frozenset({"failed", "cancelled", "blocked", "damaged"})
RECENT = 20  # snapshots, for how many stages run side by side


class Collector:
    """Collects snapshots of one plan; what never changes is read once."""

    def __init__(self, plan: Plan, profile: Mapping[str, Any], cost_of: CostOf) -> None:
        """Read nothing yet.

        Args:
            plan: the plan.
            profile: settings of the Snakemake profile, for where jobs are kept.
            cost_of: estimates the cost of a stage on the resources that it requests.
        """
        self._plan = plan
        self._store = Store(plan.config.store)
        self._folders = job_folders(profile)
        self._finder = JobFinder(plan, profile)
        self._estimates = Estimates(cost_of)
        self._done = DoneStages(plan, self._store)
        self._reader = WorkReader()
        self._learnt: set[str] = set()
        self._at_work: collections.deque[int] = collections.deque(maxlen=RECENT)

    def collect(self) -> Snapshot:
        """Return a snapshot of this moment."""
        now = time.time()
        jobs = self._finder.find()
        mains = main_processes()
        stages = self._stages(jobs, bool(mains), now)
        driven = of_other_runs(jobs.stale, mains)
        return Snapshot(
            now,
            stages,
            self._totals(stages, bool(mains), now),
            stale=[found for found in jobs.stale if found.job.job_id not in driven],
            of_other_runs=[found for found in jobs.stale if found.job.job_id in driven],
            others=jobs.others,
            mains=mains,
            problem=jobs.problem,
        )

    def _stages(self, jobs: FoundJobs, is_driven: bool, now: float) -> tuple[StageStatus, ...]:
        self._done.look()
        attempts, in_progress = Attempts(self._folders), names_in(self._store.root / ".work")
        found: dict[str, StageStatus] = {}
        for ref, spec in self._plan.stages.items():  # upstream first
            made = self._done.made(ref)
            if made is not None:
                found[ref] = self._done_stage(spec, made)
                continue
            is_begun = Path(ref).name in in_progress
            missing = [each for each in spec.upstream.values() if found[each].state != "done"]
            known = Evidence(
                work=self._reader.read(self._store.work(ref), *schedule_of(spec)) if is_begun else Work(),
                jobs=jobs.by_ref.get(ref, ()),
                attempt=functools.partial(attempts.last, spec),
                missing=missing,
                broken=next((each for each in missing if found[each].state in BROKEN), None),
                is_damaged=self._done.is_damaged(ref),
                is_outdated=self._done.is_outdated(ref),
                is_driven=is_driven,
            )
            found[ref] = self._stage(spec, known, now)
        return tuple(found.values())

    def _done_stage(self, spec: Spec, made: Made) -> StageStatus:
        if spec.ref not in self._learnt:
            self._learnt.add(spec.ref)
            if made.starts == 1:
                self._estimates.learn(spec, made.wall_s)
        said = words.done(made.wall_s, made.host)
        return StageStatus(
            spec.ref, spec.stage, "done", said, host=made.host, starts=made.starts, is_estimate=False, gpu_hours=made.gpu_hours
        )

    def _stage(self, spec: Spec, known: Evidence, now: float) -> StageStatus:
        state, said = state_of(known)
        job, work = known.job, known.work
        left = left_of(spec, work, self._estimates, runs=state == "running", now=now)
        gpus = job.gpus if job and state in AT_WORK else self._estimates.gpus(spec)
        elapsed_s = job.elapsed_s if job else max(0.0, now - work.started) if work.started else 0.0
        return StageStatus(
            ref=spec.ref,
            stage=spec.stage,
            state=state,
            said=said,
            job=job,
            host=printable(work.holder.host) if work.holder else job.nodes if job else "",
            starts=work.starts,
            restarts=job.restarts if job else 0,
            progress=work.progress,
            left_s=left.seconds,
            is_estimate=left.is_estimate,
            gpu_hours=gpus * elapsed_s / 3600 if state in AT_WORK else 0.0,
            gpu_hours_left=0.0 if state in BROKEN else gpus * (left.seconds or 0.0) / 3600,
        )

    def _totals(self, stages: tuple[StageStatus, ...], is_driven: bool, now: float) -> Totals:
        counts = collections.Counter(each.state for each in stages)
        at_work = sum(counts[state] for state in AT_WORK)
        self._at_work.append(at_work)
        side_by_side = max(self._at_work) or counts["pending"]
        is_under_way = is_driven or at_work or counts["pending"]
        upstream = {ref: list(spec.upstream.values()) for ref, spec in self._plan.stages.items()}
        return Totals(
            counts={state: counts[state] for state in STATES if counts[state]},
            gpu_hours=sum(each.gpu_hours for each in stages),
            gpu_hours_left=sum(each.gpu_hours_left for each in stages),
            end=end_of_run(stages, upstream, side_by_side, now) if is_under_way else None,
            side_by_side=side_by_side,
        )
