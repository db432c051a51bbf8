"""Tell the user about waiting and running jobs, everything once; loggers find the details in the log records."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

from snakemake_executor_plugin_submitit.private import is_open_to_others
from snakemake_executor_plugin_submitit.request.pooling import NO_POOL
from snakemake_executor_plugin_submitit.request.resources import Request, suggest_names
from snakemake_executor_plugin_submitit.submission import states
from snakemake_executor_plugin_submitit.submission.reasons import in_words
from snakemake_executor_plugin_submitit.tracking.tracked import TrackedJob, jobs_by_number, list_names


class Notices:
    """The messages of one executor."""

    def __init__(self, logger: Any, cluster: str, folder: Path) -> None:
        """Start with nothing reported.

        Args:
            logger: Snakemake's.
            cluster: "slurm", "local", or "allocation".
            folder: the folder of all jobs.
        """
        self._logger, self._cluster, self._folder = logger, cluster, folder
        self._is_announced = False
        self._names: set[str] = set()  # of resources
        self._idle_rules: set[str] = set()
        self._unpooled_rules: set[str] = set()
        self._reasons: set[str] = set()
        self._running: set[str] = set()  # ids of jobs

    def open_folder(self) -> None:
        """Warn if others may write into the folder of all jobs."""
        if self._folder.is_dir() and is_open_to_others(self._folder):
            self._logger.warning(
                f"{self._folder}: others may replace job folders here, and so run commands as you; chmod go-w closes it, and "
                "with chmod +t a group can share it"
            )

    def begin(self, where: str) -> None:
        """Report, before the first job, where jobs run; this also tells loggers that the start of each job will be reported."""
        if not self._is_announced:
            self._is_announced = True
            self._logger.info(f"jobs run on {where}", extra={"starts_are_told": True})

    def unknown_resources(self, names: Iterable[str]) -> None:
        """Warn about unknown resources whose names resemble known ones."""
        new = set(names) - self._names
        self._names |= new
        for unknown, name in suggest_names(new).items():
            self._logger.warning(f"resource {unknown} is ignored by the submitit executor; did you mean {name}?")

    def not_pooled(self, job: JobExecutorInterface) -> None:
        """Report that a job is not in a pool although its rule requests one."""
        value, rule = job.resources.get("pool"), getattr(job, "name", "")
        if value not in NO_POOL and rule not in self._unpooled_rules:
            self._unpooled_rules.add(rule)
            self._logger.info(f"{rule}: resource pool={value} is not used because the job has several ranks and runs by itself")

    def idle_ranks(self, job: JobExecutorInterface, request: Request) -> None:
        """Warn about a job whose command uses only one of its ranks."""
        command = None if job.is_group() else getattr(job, "shellcmd", None)
        if request.num_ranks > 1 and command and "spmd" not in command and job.name not in self._idle_rules:
            self._idle_rules.add(job.name)
            self._logger.warning(
                f"{job.name}: the job has {request.num_ranks} ranks, and only the first will do anything; begin the command with "
                "spmd, set the resource mpi if it starts its tasks itself, or request threads instead of tasks"
            )

    def submitted(self, tracked_jobs: Sequence[TrackedJob], job_id: str) -> None:
        """Report the ids of submitted jobs, and where their logs are."""
        job = tracked_jobs[0].job
        assert job is not None
        extra = {"jobs_running" if self._cluster != "slurm" else "jobs_queued": jobs_by_number(tracked_jobs, self._cluster)}
        if len(tracked_jobs) == 1:
            self._logger.info(f"{tracked_jobs[0].name}: {self._cluster} job {job_id}, log {job.log_path}", extra=extra)
        else:
            logs = self._folder / "<name>" / "latest"
            self._logger.info(
                f"{len(tracked_jobs)} jobs as array {job_id}: {list_names(tracked_jobs)}; logs in {logs}", extra=extra
            )

    def in_queue(self, tracked_jobs: Sequence[TrackedJob], answers: Mapping[str, states.State]) -> None:
        """Report which jobs Slurm has started since the last query, and why others wait: each reason once."""
        self._pending(tracked_jobs, answers)
        new = []
        for tracked in tracked_jobs:
            state = answers.get(tracked.job.job_id) if tracked.job else None
            if tracked.size is not None or tracked.serves is not None:  # reported by their pool, or a worker
                continue
            if tracked.job and state and state.name == "RUNNING" and tracked.job.job_id not in self._running:
                self._running.add(tracked.job.job_id)
                new.append(tracked)
        if new:
            nodes = {job_id: state.nodes for job_id, state in answers.items()}
            extra = {"jobs_running": jobs_by_number(new, self._cluster, nodes)}
            self._logger.info(f"running: {list_names(new)}", extra=extra)

    def _pending(self, tracked_jobs: Sequence[TrackedJob], answers: Mapping[str, states.State]) -> None:
        waiting: dict[str, list[TrackedJob]] = {}
        for tracked in tracked_jobs:
            state = answers.get(tracked.job.job_id) if tracked.job else None
            if state is None or state.name != "PENDING" or state.is_held:
                continue
            if state.reason and state.reason not in self._reasons:
                waiting.setdefault(state.reason, []).append(tracked)
        for reason, jobs in waiting.items():
            self._reasons.add(reason)
            if states.UNSATISFIABLE_REASONS.search(reason):
                advice = "; it will not start as it is: stop this run, request less or choose another partition"
                self._logger.warning(f"waiting in Slurm's queue, reason {reason}: {list_names(jobs)}{advice}")
            else:
                words = in_words(reason)
                meaning = "" if words == reason else f" ({words})"
                self._logger.info(f"waiting in Slurm's queue, reason {reason}{meaning}: {list_names(jobs)}")
