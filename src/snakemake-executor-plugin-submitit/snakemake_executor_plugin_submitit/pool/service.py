"""What the executor does for jobs that run in pools: queue them, start workers, notice their ends, queue lost jobs again."""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from snakemake_executor_plugin_submitit.jsonfile import read_result
from snakemake_executor_plugin_submitit.pool.pools import Pool, Pools
from snakemake_executor_plugin_submitit.private import make_folder
from snakemake_executor_plugin_submitit.processes import ProcessId
from snakemake_executor_plugin_submitit.request.pooling import worker_request
from snakemake_executor_plugin_submitit.request.resources import Request
from snakemake_executor_plugin_submitit.submission import states
from snakemake_executor_plugin_submitit.submission.pooled_job import PooledJob
from snakemake_executor_plugin_submitit.submission.submit import Plan
from snakemake_executor_plugin_submitit.tracking.adoption import digests_of
from snakemake_executor_plugin_submitit.tracking.registry import Record, Registry, Submission
from snakemake_executor_plugin_submitit.tracking.tracked import TrackedJob, jobs_by_number, list_names
from snakemake_executor_plugin_submitit.worker.tickets import TicketFolder, done_marker, job_id_of

LOCAL_MINUTES = 7 * 24 * 60  # on this machine no scheduler ends a worker, and a new one would load everything again


@dataclass(frozen=True)
class Host:
    """The executor, as far as pools need it.

    Attributes:
        folder: its folder.
        done_dir: folder of the done markers.
        cluster: "slurm", "local", or "allocation".
        registry: records what the next main process has to know.
        logger: Snakemake's.
        tracked: all jobs and workers, by number.
        new_info: returns the entry of Snakemake's interface for a worker, with a new number.
        met: returns a request with its partition; raises WorkflowError if it cannot be met.
        send: queues jobs for sbatch; on this machine they start when there is room.
        drop: forgets a job or worker, and frees its share of this machine.
        mark_reported: records that nobody has to follow a submission any more.
    """

    folder: Path
    done_dir: Path
    cluster: str
    registry: Registry
    logger: Any
    tracked: dict[int, TrackedJob]
    new_info: Callable[[], SubmittedJobInfo]
    met: Callable[[Request], Request]
    send: Callable[[Sequence[TrackedJob]], None]
    drop: Callable[[TrackedJob], None]
    mark_reported: Callable[[TrackedJob], None]


class PoolService:
    """The pools of one executor."""

    def __init__(self, host: Host, *, minutes: int, preload: Iterable[str]) -> None:
        """Begin without pools.

        Args:
            host: the executor.
            minutes: how long a worker starts jobs, in Slurm.
            preload: modules that workers load beforehand.
        """
        self._host, self._preload = host, tuple(preload)
        self._minutes = LOCAL_MINUTES if host.cluster == "local" else minutes
        self._is_open = True
        self._started: set[str] = set()  # uids of jobs whose start was logged
        self._pools = Pools(host.folder, host.done_dir, cluster=host.cluster, preload=self._preload)

    # --- jobs

    def enqueue(self, tracked_jobs: Sequence[TrackedJob]) -> None:
        """Queue jobs for the workers of their pools, and start the workers that are missing."""
        by_pool: dict[Path, list[tuple[TrackedJob, PooledJob]]] = {}
        for tracked in tracked_jobs:
            assert tracked.size is not None
            try:
                make_folder(self._host.done_dir)
                job = self._pools.new_job(tracked.name, tracked.request, tracked.size)
                by_pool.setdefault(job.tickets.folder, []).append((tracked, job))
            except WorkflowError as err:
                tracked.refusal = str(err)
            except OSError as err:
                tracked.refusal = f"--submitit-folder {self._host.folder}: cannot create a pool here: {err.strerror}"
        for folder, pairs in by_pool.items():
            self._put(folder, pairs)
        self._start_workers()

    def _put(self, folder: Path, pairs: Sequence[tuple[TrackedJob, PooledJob]]) -> None:
        """Record the jobs for a later main process, then write their tickets."""
        records = [Record(t.name, str(job.folder), t.outputs, digests_of(t.info.job)) for t, job in pairs]
        submission = Submission(str(folder), records, is_array=False, is_pool=True)
        try:
            if self._host.cluster == "slurm":
                self._host.registry.note(submission)
        except OSError as err:
            for tracked, job in pairs:
                self._pools.forget(job)
                tracked.refusal = f"--submitit-folder {self._host.folder}: cannot write here: {err.strerror}"
            return
        for (tracked, job), record in zip(pairs, records, strict=True):
            tracked.submission, tracked.record = submission, record
            try:
                self._pools.put(job, tracked.command)
                tracked.job = job
            except OSError as err:
                self._pools.forget(job)
                tracked.refusal = f"{folder}: its ticket cannot be written: {err.strerror}"
        queued = [tracked for tracked, _ in pairs]
        logs = self._host.folder / "<name>" / "latest"
        self._host.logger.info(
            f"{len(queued)} jobs queued for a pool: {list_names(queued)}; logs in {logs}",
            extra={"jobs_queued": jobs_by_number(queued, self._host.cluster)},
        )

    def adopt(self, job: PooledJob) -> None:
        """Follow a job that a worker of an earlier main process runs."""
        self._pools.adopt(job)

    def forget(self, job: PooledJob) -> None:
        """Drop a job that has its verdict."""
        self._pools.forget(job)

    def queue_again(self, tracked: TrackedJob, job: PooledJob, state: states.State | None) -> bool:
        """Queue a job again if its worker ended through no fault of the job; return True if it was."""
        is_own = self._pools.is_own(job)
        try:
            why = self._pools.again(job, state)
        except OSError as err:
            self._host.logger.error(f"{tracked.name}: its ticket cannot be written: {err.strerror}")
            return False
        if why is None:
            return False
        self._host.logger.warning(f"{tracked.name}: {why}; it is queued again")
        if not is_own:
            self._submit_anew(tracked)
        return True

    def _submit_anew(self, tracked: TrackedJob) -> None:
        """Submit a job that was in a pool of an earlier main process and did not end there."""
        self._host.mark_reported(tracked)
        tracked.job = tracked.info.external_jobid = None
        if tracked.size is None:
            self._host.send([tracked])
        else:
            self.enqueue([tracked])

    # --- workers

    def plan(self, tracked: TrackedJob, owner: ProcessId | None) -> Plan:
        """Create the folder of a worker.

        Raises:
            WorkflowError: if it cannot be created.
        """
        assert tracked.offered is not None
        return self._pools.plan(tracked.serves, tracked.offered, tracked.request.runtime_min, owner)

    def is_superfluous(self, tracked: TrackedJob) -> bool:
        """Drop a worker that found no room before the others had taken every job; return True if it was dropped.

        One that is needed will offer what the jobs of now require.
        """
        offered = self._pools.wanted(tracked.serves)
        if offered is not None:
            self._offer(tracked, offered)
            return False
        self._host.drop(tracked)
        self._pools.worker_ended(tracked.serves, "", None)
        return True

    def want_room(self, is_wanted: bool) -> None:
        """On this machine, ask idle workers to leave because jobs wait for their resources, or to stay."""
        self._pools.want_room(is_wanted)

    def _start_workers(self) -> None:
        for pool, offered, missing in self._pools.to_start(self._is_awaited) if self._is_open else ():
            workers = [self._new_worker(pool, offered) for _ in range(missing)]
            self._host.send([tracked for tracked in workers if tracked.refusal is None])

    def _is_awaited(self, pool: Pool) -> bool:
        """Return True if a worker of a pool has not started yet."""
        started = {job_id_of(worker) for worker in pool.tickets.workers()}
        workers = [tracked for tracked in self._host.tracked.values() if tracked.serves is pool]
        return any(tracked.job is None or tracked.job.job_id not in started for tracked in workers)

    def _new_worker(self, pool: Pool, offered: Request) -> TrackedJob:
        info = self._host.new_info()
        tracked = TrackedJob(info, offered, "", pool.name, (), serves=pool, excluded=set(pool.excluded))
        self._offer(tracked, offered)
        self._host.tracked[info.aux["number"]] = tracked
        return tracked

    def _offer(self, tracked: TrackedJob, offered: Request) -> None:
        """Have a worker that has not started yet provide these resources to jobs."""
        tracked.offered, tracked.request = offered, worker_request(offered, self._minutes, preloads=bool(self._preload))
        try:
            tracked.request = self._host.met(tracked.request)
        except WorkflowError as err:
            tracked.refusal = str(err)

    # --- states

    def before_query(self) -> dict[TicketFolder, list[str]]:
        """Return what `update` has to know from before the query of Slurm."""
        return self._pools.workers_with_claims()

    def update(
        self, before: Mapping[TicketFolder, list[str]], answers: Mapping[str, states.State] | None, markers: set[str]
    ) -> None:
        """Find out where each job is, notice the ends of workers, and start those that are missing.

        Args:
            before: the answer of `before_query`.
            answers: Slurm's states by job id; None: not queried, or no answer.
            markers: names of the done markers that exist.
        """
        workers = [tracked for tracked in list(self._host.tracked.values()) if tracked.serves is not None]
        handles = {tracked.job.job_id: tracked.job.handle for tracked in workers if tracked.job is not None}
        self._pools.update(before, answers, handles)
        self._log_started()
        strays = {id(job) for job in self._pools.take_strays()}
        for tracked in [t for t in list(self._host.tracked.values()) if id(t.job) in strays]:
            self._submit_anew(tracked)
        for tracked in workers:
            self._check_worker(tracked, answers, markers)
        self._start_workers()

    def _log_started(self) -> None:
        """Log the jobs that a worker has taken since the last time."""
        new = [
            tracked
            for tracked in list(self._host.tracked.values())
            if isinstance(tracked.job, PooledJob) and tracked.job.worker is not None and tracked.job.uid not in self._started
        ]
        self._started.update(tracked.job.uid for tracked in new if isinstance(tracked.job, PooledJob))
        if new:
            extra = {"jobs_running": jobs_by_number(new, self._host.cluster)}
            self._host.logger.info(f"running in a pool: {list_names(new)}", extra=extra)

    def _check_worker(self, tracked: TrackedJob, answers: Mapping[str, states.State] | None, markers: set[str]) -> None:
        """Notice the end of a worker."""
        if tracked.refusal is not None:
            self._host.drop(tracked)
            self._pools.worker_ended(tracked.serves, "", None)
            self._refuse_waiting(tracked.serves, tracked.refusal)
            return
        if tracked.job is None:
            return
        state = None if answers is None else answers.get(tracked.job.job_id)
        marker = done_marker(tracked.job.folder)
        status = tracked.job.poll(state, look=marker in markers)
        if status is None and not (answers is not None and tracked.job.is_lost(state)):
            return
        with contextlib.suppress(OSError):
            (self._host.done_dir / marker).unlink()
        self._host.drop(tracked)
        jobs = (read_result(tracked.job.folder) or {}).get("jobs", 0)
        if self._pools.worker_ended(tracked.serves, tracked.job.job_id, tracked.offered, jobs=jobs, state=state):
            why = "it cannot take any of them" if status == 0 else tracked.job.explain(state)
            self._refuse_waiting(tracked.serves, f"no worker of its pool has run it; the last one: {why}")

    def _refuse_waiting(self, pool: Pool, why: str) -> None:
        withdrawn = {id(job) for job in self._pools.take_out(pool)}
        for tracked in list(self._host.tracked.values()):
            if id(tracked.job) in withdrawn:
                tracked.refusal = why

    # --- the end

    def abolish(self) -> None:
        """Start nothing more: remove all queues, before the workers are cancelled."""
        self._is_open = False
        self._pools.abolish()

    def dismiss(self) -> None:
        """At the end of a run, let the workers exit, and cancel those that are still pending in Slurm."""
        self._is_open = False
        self._pools.close()
        workers = [t.job.job_id for t in list(self._host.tracked.values()) if t.serves is not None and t.job is not None]
        if workers and self._host.cluster == "slurm":
            states.cancel(workers, "--state=PENDING")
