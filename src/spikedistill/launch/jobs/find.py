"""Which jobs belong to which stages of a plan.

Records of the executor say which outputs a job makes; a job without one, as from `spikedistill submit`, is known by its folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from spikedistill.launch.jobs import local, slurm
from spikedistill.launch.jobs.attempts import job_names
from spikedistill.launch.jobs.job import GONE, Job
from spikedistill.launch.jobs.pooled import jobs_of_local_workers, pooled_jobs
from spikedistill.plan.build import Plan
from spikedistill.plan.stages import STAGES
from spikedistill.store.artifacts import Store, is_artifact_name

SUBMITIT = Path(".snakemake") / "submitit"
"""Where jobs are kept, unless a profile has another `submitit-folder`."""


@dataclass(frozen=True)
class Found:
    """A job with what it is for.

    Attributes:
        job: the job.
        name: its own name.
        job_dir: its own folder; each job of an array has one.
        refs: artifacts of the plan that it makes; several for a group of Snakemake.
    """

    job: Job
    name: str
    job_dir: Path
    refs: tuple[str, ...]

    @property
    def is_stage(self) -> bool:
        """Return whether it makes an artifact, be it of this plan or not."""
        return bool(self.refs) or self.name.partition(".")[0] in STAGES or is_artifact_name(self.name)  # as `submit` calls it

    @property
    def artifact(self) -> str:
        """Return the name of the artifact that it makes, as its own name tells it."""
        rule, _, rest = self.name.partition(".")
        return rest if rule in STAGES else self.name


@dataclass(frozen=True)
class FoundJobs:
    """All jobs that were submitted from a working directory and are known now.

    Attributes:
        by_ref: those of each stage, the one most likely to be running first.
        stale: living ones of stages that the plan does not have.
        others: living ones that make no artifact, such as the report.
        problem: why those in Slurm are not known, or not as of now; empty if they are.
    """

    by_ref: Mapping[str, Sequence[Found]] = field(default_factory=dict)
    stale: Sequence[Found] = ()
    others: Sequence[Found] = ()
    problem: str = ""

    def living(self, refs: Iterable[str] | None = None) -> list[Found]:
        """Return the jobs of some stages, or of all of the plan, that wait or run, each once."""
        chosen = self.by_ref if refs is None else [ref for ref in refs if ref in self.by_ref]
        unique = {found.job.job_id: found for ref in chosen for found in self.by_ref[ref] if found.job.is_alive}
        return list(unique.values())


def job_folders(profile: Mapping[str, Any]) -> list[Path]:
    """Return the folders of this user's jobs in this working directory, given the settings of the profile."""
    from snakemake_executor_plugin_submitit.private import own_path

    given = profile.get("submitit-folder")
    folders = [SUBMITIT, *([Path(str(given))] if given else [])]
    return list(dict.fromkeys(own_path(folder.absolute()) for folder in folders))


class JobFinder:
    """Finds the jobs of a plan's stages."""

    def __init__(self, plan: Plan, profile: Mapping[str, Any]) -> None:
        """Index the stages.

        Args:
            plan: the plan.
            profile: settings of the Snakemake profile: where jobs are kept, and whether Slurm is asked.
        """
        store = Store(plan.config.store)
        self._folders = folders = job_folders(profile)
        self._asks_slurm = slurm.is_here() and profile.get("submitit-cluster") != "local"
        self._real_folders = {os.path.realpath(folder) for folder in folders}
        self._known_folders: dict[Path, bool] = {}
        self._answer: tuple[float, list[Job]] | None = None
        self._preempted: set[tuple[str, int]] = set()
        self._by_name = {name: ref for ref, spec in plan.stages.items() for name in job_names(spec)}
        self._by_output = {str(store.manifest_path(ref).absolute()): ref for ref in plan.stages}

    @property
    def outputs(self) -> Iterable[str]:
        """Absolute paths of what the stages make."""
        return self._by_output.keys()

    def find(self) -> FoundJobs:
        """Look at records, queue and processes, once each; if Slurm does not answer, its last answer counts."""
        records = self._records()  # before the queue: a job that is submitted in between is just not known yet
        queued, problem = self._ask_slurm(is_used=bool(records))
        queued = [self._remember_preemption(job) for job in queued]
        here = local.local_jobs()
        found = [each for job in [*queued, *here] if (each := self._recognise(job, records)) is not None]
        found += self._of_local_workers(here)
        if self._answer is not None:
            found += self._pooled(queued)
            known = {each.job.job_id for each in found}
            found += [gone for job_id, gone in records.items() if job_id not in known]
        return replace(_grouped(found), problem=problem)

    def _ask_slurm(self, *, is_used: bool) -> tuple[list[Job], str]:
        """Return this user's jobs in Slurm, and why they are not those of this moment, if they are not.

        Args:
            is_used: whether jobs have been submitted to Slurm; otherwise a machine without a cluster is no problem.
        """
        if not self._asks_slurm:
            return [], ""
        try:
            self._answer = time.time(), slurm.queued_jobs(self._folders)
        except slurm.NoAnswerError as err:
            if isinstance(err, slurm.NoClusterError) and not is_used:
                return [], ""
            if self._answer is None:
                return [], f"{err}; nothing is known of jobs in Slurm"
            return self._answer[1], f"{err}; jobs are shown as of {time.strftime('%H:%M:%S', time.localtime(self._answer[0]))}"
        return self._answer[1], ""

    def _pooled(self, queued: Sequence[Job]) -> Iterator[Found]:
        """Yield the jobs that share jobs of Slurm's queue."""
        by_id = {job.job_id: job for job in queued}
        for record, job in (pair for folder in self._folders for pair in pooled_jobs(folder, by_id)):
            refs = tuple(ref for each in record.outputs if (ref := self._by_output.get(each)))
            yield Found(job, record.name, Path(record.job_dir), refs)

    def _of_local_workers(self, here: Sequence[Job]) -> Iterator[Found]:
        """Yield the jobs that share processes of this machine."""
        workers = {job.job_id: job for job in here}
        for job_dir, job in (pair for folder in self._folders for pair in jobs_of_local_workers(folder, workers)):
            ref = self._by_name.get(job_dir.parent.name)
            yield Found(job, job_dir.parent.name, job_dir, (ref,) if ref else ())

    def _remember_preemption(self, job: Job) -> Job:
        """Return a job with what was seen of its last run."""
        if job.preempted is not None:
            self._preempted.add((job.job_id, job.restarts))
        return replace(job, was_preempted=(job.job_id, job.restarts - 1) in self._preempted)

    def _records(self) -> dict[str, Found]:
        """Return the jobs that the executor has recorded, by id."""
        from snakemake_executor_plugin_submitit.tracking.registry import Registry

        found = {}
        for folder in self._folders:
            for submission in Registry(folder).read():
                for record, job_id in zip(submission.records, submission.job_ids(), strict=True):
                    if job_id is not None:
                        job = Job("slurm", job_id, Path(submission.folder), GONE)
                        refs = tuple(ref for each in record.outputs if (ref := self._by_output.get(each)))
                        found[job_id] = Found(job, record.name, Path(record.job_dir), refs)
        return found

    def _is_kept_in(self, folder: Path) -> bool:
        """Return whether a folder is one of ours, under whichever of its paths."""
        if folder not in self._known_folders:
            self._known_folders[folder] = folder in self._folders or os.path.realpath(folder) in self._real_folders
        return self._known_folders[folder]

    def _recognise(self, job: Job, records: Mapping[str, Found]) -> Found | None:
        record = records.get(job.job_id)
        if job.cluster == "slurm" and record is not None and record.job.folder == job.folder:
            return Found(job, record.name, record.job_dir, record.refs)
        name = job.folder.parent.name
        if "_" in job.job_id or not self._is_kept_in(job.folder.parent.parent):
            return None  # of another working directory, or of an array whose record is not written yet
        ref = self._by_name.get(name)
        return Found(job, name, job.folder, (ref,) if ref else ())


def _grouped(found: Iterable[Found]) -> FoundJobs:
    by_ref: dict[str, list[Found]] = {}
    unplanned = []
    for each in sorted(found, key=lambda each: (not each.job.is_alive, each.job.is_pending)):
        for ref in each.refs:
            by_ref.setdefault(ref, []).append(each)
        if not each.refs and each.job.is_alive:
            unplanned.append(each)
    stale = tuple(each for each in unplanned if each.is_stage)
    return FoundJobs(by_ref, stale, tuple(each for each in unplanned if not each.is_stage))
