"""Implement Snakemake's executor interface: submit jobs, follow their states, report outcomes."""

import asyncio
import contextlib
import itertools
import os
import shlex
import threading
import time
import uuid
from collections.abc import AsyncGenerator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface
from snakemake_interface_executor_plugins.utils import format_cli_arg

from snakemake_executor_plugin_submitit.jsonfile import read_result
from snakemake_executor_plugin_submitit.private import make_folder, write_new
from snakemake_executor_plugin_submitit.processes import ProcessId
from snakemake_executor_plugin_submitit.request.local_slots import SlotPool
from snakemake_executor_plugin_submitit.request.partitions import choose_partition, read_partitions
from snakemake_executor_plugin_submitit.request.pooling import capacity, parse_pool, worker_request
from snakemake_executor_plugin_submitit.request.quoting import shell_quotes
from snakemake_executor_plugin_submitit.request.resources import Request, parse_resources
from snakemake_executor_plugin_submitit.request.stage_in import stage_in_arguments
from snakemake_executor_plugin_submitit.submission import states
from snakemake_executor_plugin_submitit.submission.allocation import own_allocation
from snakemake_executor_plugin_submitit.submission.commands import BusyError, allow_sbatch, is_of_outer_job, stop_sbatch
from snakemake_executor_plugin_submitit.submission.held import HeldJobs
from snakemake_executor_plugin_submitit.tracking.adoption import Adopter, digests_of
from snakemake_executor_plugin_submitit.tracking.cancelled import forgo_retries, is_cancelled
from snakemake_executor_plugin_submitit.tracking.folders import keep_folders
from snakemake_executor_plugin_submitit.tracking.notices import Notices
from snakemake_executor_plugin_submitit.tracking.registry import Record, Registry, Submission
from snakemake_executor_plugin_submitit.tracking.tracked import TrackedJob

if TYPE_CHECKING:
    from snakemake_executor_plugin_submitit.pool.service import PoolService
    from snakemake_executor_plugin_submitit.submission.submit import Plan, SubmittedJob
    from snakemake_executor_plugin_submitit.submission.submitter import Submitter

TICK_S = 0.25
JOBS_PER_TICK = 1000
MAX_RESUBMISSIONS = 5


class Executor(RemoteExecutor):
    """Run the jobs of a workflow through submitit, as Slurm jobs or on this machine."""

    _pools: "PoolService | None" = None

    def __post_init__(self) -> None:
        """Set up the executor; called by Snakemake, whose wait thread is running already."""
        from snakemake_executor_plugin_submitit.submission.submit import DONE_DIR, own_job_folder

        settings = self.workflow.executor_settings
        if self.workflow.remote_execution_settings.immediate_submit:
            raise WorkflowError(
                "--immediate-submit: the submitit executor submits a job when its inputs exist, and follows it. Leave the option "
                "out; with --submitit-detach, Ctrl-C leaves the jobs running, and the same command adopts them later"
            )
        allow_sbatch()
        self._cluster = settings.cluster
        self._folder = own_job_folder(Path(settings.folder))
        self._done_dir = self._folder / DONE_DIR
        self._detach = settings.detach
        if self._detach and self._cluster != "slurm":
            where = "on this machine" if self._cluster == "local" else "that share its Slurm job"
            raise WorkflowError(f"--submitit-detach needs cluster slurm: jobs {where} end with the main process")
        self._comment = f"snakemake {uuid.uuid4().hex[:12]}"
        self._max_pause_s = settings.poll_seconds
        self._queue = states.SlurmQueue()
        self._held = HeldJobs()
        self._numbers = itertools.count()
        self._next_query, self._pause_s = 0.0, states.FIRST_PAUSE_S
        self._tracked: dict[int, TrackedJob] = {}
        self._starting = threading.RLock()
        self._submitter: Submitter[TrackedJob] | None = None
        allocation = own_allocation() if self._cluster == "allocation" else None
        self._slots = SlotPool(settings.local_cpus, settings.local_gpus, settings.local_mem_mb, allocation)
        if self._cluster == "slurm":
            _leave_outer_job()
        self._registry = Registry(self._folder)
        keep_folders(self.workflow.dag, self._registry)
        self._adopter = Adopter(self._registry, self._queue, self.workflow, self.logger)
        self._retention(settings.keep_days)
        self._notices = Notices(self.logger, self._cluster, self._folder)
        self._notices.open_folder()
        self._partitions_file = settings.partitions if self._cluster == "slurm" else None
        self._partitions = read_partitions(self._partitions_file) if self._partitions_file else []
        self._names: dict[str, str] | None = {} if settings.efficiency_report and self._cluster == "slurm" else None
        self._pooled_names: dict[Path, str] = {}

    def _wait_thread(self) -> None:
        """Report errors of the wait thread here; the base class prints first and hangs if stdout is closed."""
        try:
            super()._wait_thread()
        except OSError as err:
            self.workflow.scheduler.executor_error_callback(err)

    def _retention(self, days: int) -> None:
        from snakemake_executor_plugin_submitit.tracking.retention import remove_old

        keep = self._adopter.job_dirs
        threading.Thread(target=remove_old, args=(self._folder, days, keep), daemon=True).start()

    def run_jobs(self, jobs: list[JobExecutorInterface]) -> None:
        """Adopt the ready jobs that are already running, submit the others."""
        self._notices.begin(self._slots.describe() if self._cluster != "slurm" else f"Slurm; their comment is `{self._comment}`")
        tracked_jobs = []
        for job in jobs:
            self.run_job_pre(job)
            tracked = self._track(job)
            if tracked is not None and not self._adopt(tracked):
                tracked_jobs.append(tracked)
        pooled = [tracked for tracked in tracked_jobs if tracked.size is not None]
        single = [tracked for tracked in tracked_jobs if tracked.size is None]
        if pooled:
            self._pool_service().enqueue(pooled)
        if single and self._cluster == "slurm":
            self._sender().add(single)
        self._start_waiting()

    def run_job(self, job: JobExecutorInterface) -> None:
        """Adopt or submit one job."""
        self.run_jobs([job])

    def _track(self, job: JobExecutorInterface) -> TrackedJob | None:
        info = SubmittedJobInfo(job, aux={"number": next(self._numbers)})
        name = _name(job)
        self._notices.unknown_resources(job.resources.keys())
        try:
            request = parse_resources(job.resources, threads=job.threads)
            size = parse_pool(job.resources, request)
            if size is None:
                self._notices.not_pooled(job)
                request = self._met(request)
            else:
                settings = self.workflow.executor_settings
                preloads = bool(settings.pool_preload)
                offered = capacity([request], size.slots, preloads=preloads)
                self._met(worker_request(offered, settings.pool_minutes, preloads=preloads))
            outputs = tuple(str(Path(file).absolute()) for file in job.output)
            tracked = TrackedJob(info, request, self._command(job), name, outputs, size=size)
        except WorkflowError as err:
            self._report(info, f"{name}: {err}\n")
            return None
        self._tracked[info.aux["number"]] = tracked
        self._notices.idle_ranks(job, request)
        self.report_job_submission(info)
        return tracked

    def _met(self, request: Request) -> Request:
        """Return a request with its partition; raise an error if it can never be met."""
        if self._partitions_file:
            request = choose_partition(request, self._partitions, self._partitions_file)
        if self._cluster != "slurm":
            self._slots.check(request)
        return request

    def _adopt(self, tracked: TrackedJob) -> bool:
        found = self._adopter.find(tracked.outputs, tracked.info.job) if self._cluster == "slurm" else None
        if found is None:
            return False
        from snakemake_executor_plugin_submitit.submission.pooled_job import PooledJob

        tracked.submission, tracked.record, job = found
        job.mem_mb = tracked.request.mem_mb
        if isinstance(job, PooledJob):
            self._pool_service().adopt(job)
        self._note_submitted(tracked, job)
        self.logger.info(f"{tracked.name}: adopted slurm job {job.job_id}, log {job.log_path}")
        return True

    def _command(self, job: JobExecutorInterface) -> str:
        with shell_quotes():
            command = self.format_job_exec(job)
        inputs = None if job.is_group() else job.input
        settings = self.workflow.executor_settings
        staged = stage_in_arguments(job.resources, inputs, settings.stage_in_folder, settings.stage_in_gb)
        command = command.replace(" -m snakemake ", " -m snakemake_executor_plugin_submitit.job.shim ", 1)
        return " ".join([command, *map(shlex.quote, staged)])

    def get_job_args(self, job: JobExecutorInterface, **kwargs: Any) -> str:
        """Return Snakemake's arguments in the job: wait for the inputs, not for a directory that disappears with this process."""
        arguments = super(RemoteExecutor, self).get_job_args(job, **kwargs)
        files = list(job.get_wait_for_files())
        if len(files) <= 20:
            return f"{arguments} {format_cli_arg('--wait-for-files', files, skip=not files)}"
        folder = self._folder / "inputs"
        make_folder(folder)
        listing = folder / f"{uuid.uuid4().hex}.txt"
        write_new(listing, "\n".join(map(str, files)) + "\n")
        return f"{arguments} {format_cli_arg('--wait-for-files-file', listing)}"

    def get_python_executable(self) -> str:
        """Return the path of Python in the job, quoted for a shell."""
        return shlex.quote(super().get_python_executable())

    # --- submission

    def _sender(self) -> "Submitter[TrackedJob]":
        if self._submitter is None:
            from snakemake_executor_plugin_submitit.submission.submitter import Submitter

            self._submitter = Submitter(
                self._send,
                lambda tracked: (repr(tracked.request), tuple(sorted(tracked.excluded)), id(tracked.serves)),
                max_jobs=self.workflow.executor_settings.array_size,
                warn=self.logger.warning,
            )
        return self._submitter

    def _send(self, tracked_jobs: Sequence[TrackedJob]) -> None:
        """Call sbatch once, from the submitter's thread; note permanent refusals for the wait thread to report."""
        tracked_jobs = [tracked for tracked in tracked_jobs if tracked.job is None]  # half of them may have been sent before
        if not tracked_jobs:
            return
        try:
            self._submit(tracked_jobs)
        except BusyError:
            raise
        except (WorkflowError, OSError) as err:
            if len(tracked_jobs) > 1 and "job array" in str(err).lower():
                half = (len(tracked_jobs) + 1) // 2  # more than the site's MaxArraySize
                self._sender().max_jobs = half
                self._send(tracked_jobs[:half])
                self._send(tracked_jobs[half:])
                return
            for tracked in tracked_jobs:
                tracked.refusal = str(err)
        except Exception as err:  # if this thread died, the run would wait for ever
            for tracked in tracked_jobs:
                tracked.refusal = f"the job cannot be submitted: {type(err).__name__}: {err}"

    def _submit(self, tracked_jobs: Sequence[TrackedJob], gpus: Iterable[int] = ()) -> None:
        from snakemake_executor_plugin_submitit.submission.submit import array_folder, send, without_nodes

        first = tracked_jobs[0]
        try:
            make_folder(self._done_dir)
        except OSError as err:
            raise WorkflowError(f"--submitit-folder {self._folder}: cannot create a folder here: {err.strerror}") from err
        plans = [self._plan(tracked) for tracked in tracked_jobs]
        folder = plans[0].job_dir if len(plans) == 1 else array_folder(self._folder)
        pairs = zip(tracked_jobs, plans, strict=True)
        records = [Record(t.name, str(p.job_dir), t.outputs, digests_of(t.info.job)) for t, p in pairs]
        submission = Submission(str(folder), records, is_array=len(plans) > 1)
        is_noted = self._cluster == "slurm" and first.serves is None  # a later main process need not know of workers
        if is_noted:
            self._registry.note(submission)
        try:
            jobs = send(
                plans,
                cluster=self._cluster,
                folder=folder,
                request=without_nodes(first.request, first.excluded),
                name=first.name if len(tracked_jobs) == 1 else _array_name(tracked_jobs),
                comment=self._comment,
                gpus=tuple(gpus),
                warn=self.logger.warning,
            )
        except BaseException:
            self._registry.forget(submission)
            for job_dir in {folder, *(each.job_dir for each in plans)}:
                with contextlib.suppress(OSError):
                    job_dir.rmdir()
            raise
        submission.job_id = jobs[0].job_id.partition("_")[0]
        if is_noted:
            with contextlib.suppress(OSError):  # it is submitted; what was noted before leads to its id
                self._registry.note(submission)
        for tracked, job, record in zip(tracked_jobs, jobs, records, strict=True):
            tracked.submission, tracked.record = submission, record
            self._note_submitted(tracked, job)
        self._notices.submitted(tracked_jobs, submission.job_id)

    def _plan(self, tracked: TrackedJob) -> "Plan":
        from snakemake_executor_plugin_submitit.submission.submit import plan

        owner = ProcessId.own() if self._cluster == "local" else None
        if tracked.serves is not None:
            return self._pool_service().plan(tracked, owner)
        place: dict[str, Any] = {"folder": self._folder, "done_dir": self._done_dir, "owner": owner}
        return plan(tracked.command, name=tracked.name, request=tracked.request, **place)

    def _note_submitted(self, tracked: TrackedJob, job: "SubmittedJob") -> None:
        tracked.info.external_jobid = job.job_id
        tracked.job = job
        if self._names is not None and tracked.size is None:
            self._names[job.job_id] = tracked.name
        self._pause_s = states.FIRST_PAUSE_S
        self._next_query = min(self._next_query, time.monotonic() + self._pause_s)

    def _start_waiting(self) -> None:
        """Start the jobs for which there is room, oldest first; do nothing on Slurm, which does so itself."""
        if self._cluster == "slurm":
            return
        with self._starting:
            is_full = False
            for tracked in list(self._tracked.values()):
                if tracked.job is None and tracked.refusal is None and tracked.size is None and self.wait:
                    if tracked.serves is not None and self._pool_service().is_superfluous(tracked):
                        continue
                    tracked.share = self._slots.take(tracked.request)
                    if tracked.share is None:
                        is_full = True
                        continue
                    try:
                        self._submit([tracked], tracked.share.gpus)
                    except BusyError:  # this machine cannot start another process now
                        self._slots.give_back(tracked.share)
                        tracked.share = None
                        break
                    except (WorkflowError, OSError) as err:
                        tracked.refusal = str(err)
            if self._pools is not None:
                self._pools.want_room(is_full)

    # --- pools

    def _pool_service(self) -> "PoolService":
        if self._pools is None:
            from snakemake_executor_plugin_submitit.pool.service import Host, PoolService

            host = Host(
                folder=self._folder,
                done_dir=self._done_dir,
                cluster=self._cluster,
                registry=self._registry,
                logger=self.logger,
                tracked=self._tracked,
                new_info=lambda: SubmittedJobInfo(None, aux={"number": next(self._numbers)}),
                met=self._met,
                send=lambda tracked_jobs: self._sender().add(tracked_jobs) if self._cluster == "slurm" else None,
                drop=self._drop,
                mark_reported=self._mark_reported,
            )
            settings = self.workflow.executor_settings
            preload = [name.strip() for name in (settings.pool_preload or "").split(",") if name.strip()]
            self._pools = PoolService(host, minutes=settings.pool_minutes, preload=preload)
        return self._pools

    # --- states of jobs

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Report the jobs that have ended, yield the others."""
        if not active_jobs:  # also before `__post_init__`: the wait thread starts first
            return
        markers = self._done_markers()
        before = {} if self._pools is None else self._pools.before_query()
        answers = self._query_slurm()
        if self._pools is not None:
            self._pools.update(before, answers, markers)
        for info in active_jobs:
            tracked = self._tracked[info.aux["number"]]
            if not self._handle_outcome(tracked, answers, markers):
                yield info
        self._start_waiting()

    def _done_markers(self) -> set[str]:
        try:
            return set(os.listdir(self._done_dir))  # noqa: PTH208 - the names, not paths: cheap for thousands
        except OSError:
            return set()

    def _query_slurm(self) -> dict[str, states.State] | None:
        if self._cluster != "slurm" or time.monotonic() < self._next_query:
            return None
        ids = {job.job_id for tracked in list(self._tracked.values()) if (job := tracked.job) is not None} - {""}
        if not ids:
            return None
        self._pause_s = min(self._max_pause_s, states.PAUSE_GROWTH * self._pause_s)
        answers = self._queue.query(ids)
        any_ended = any(not state.is_alive for state in (answers or {}).values())
        self._next_query = time.monotonic() + min(self._max_pause_s, states.FIRST_PAUSE_S if any_ended else self._pause_s)
        self._notices.in_queue(list(self._tracked.values()), answers or {})
        names = {job.job_id: tracked.name for tracked in list(self._tracked.values()) if (job := tracked.job) is not None}
        for text in self._held.handle(names, answers or {}):
            self.logger.warning(text)
        return answers

    def _handle_outcome(self, tracked: TrackedJob, answers: dict[str, states.State] | None, markers: set[str]) -> bool:
        """Report a job's outcome or resubmit it; return True if the outcome was reported."""
        if tracked.refusal is not None:
            self._drop(tracked)
            self._report(tracked.info, f"{tracked.name}: {tracked.refusal}\n")
            return True
        if tracked.job is None:
            return False
        from snakemake_executor_plugin_submitit.submission.pooled_job import PooledJob
        from snakemake_executor_plugin_submitit.worker.tickets import done_marker

        marker = done_marker(tracked.job.folder)
        state = None if answers is None else answers.get(tracked.job.job_id)
        status = tracked.job.poll(state, look=marker in markers)
        if status is None and isinstance(tracked.job, PooledJob) and tracked.job.is_gone and is_cancelled(tracked.job.folder):
            status = 1  # the user took it out of its pool
        is_lost = answers is not None and tracked.job.is_lost(state)
        if status is None and not is_lost:
            return False
        if status is None:
            status = tracked.job.poll()  # its done marker may be missing
        if marker in markers:
            with contextlib.suppress(OSError):
                (self._done_dir / marker).unlink()
        if status != 0 and self._resubmit(tracked, state):
            return False
        self._drop(tracked)
        if status == 0:
            self.report_job_success(tracked.info)
        else:
            self._report_failure(tracked, status, state)
        return True

    def _resubmit(self, tracked: TrackedJob, state: states.State | None) -> bool:
        """Resubmit a job that lost its nodes through no fault of its own, without using up a retry; return True if it was."""
        from snakemake_executor_plugin_submitit.submission.pooled_job import PooledJob

        assert tracked.job is not None
        if isinstance(tracked.job, PooledJob):
            return self._pool_service().queue_again(tracked, tracked.job, state)
        if self._cluster != "slurm" or tracked.resubmissions >= MAX_RESUBMISSIONS:
            return False
        failure = (read_result(tracked.job.folder) or {}).get("failure", {})
        if failure.get("node_down"):
            nodes: tuple[str, ...] = (failure["host"],)
            why = f"node {failure['host']} failed"
            states.cancel([tracked.job.job_id])
        elif state is not None and state.name in states.LOST_PLACE and not failure:
            nodes = states.failed_nodes(state)
            why = f"state {state.name}" + (f", node {', '.join(nodes)}" if nodes else "")
        else:
            return False
        self.logger.warning(f"{tracked.name}: slurm job {tracked.job.job_id} lost its place ({why}); it is submitted again")
        self._mark_reported(tracked)
        tracked.resubmissions += 1
        tracked.excluded.update(nodes)
        tracked.job = tracked.info.external_jobid = None
        self._sender().add([tracked])
        return True

    def _drop(self, tracked: TrackedJob) -> None:
        from snakemake_executor_plugin_submitit.submission.pooled_job import PooledJob

        self._tracked.pop(tracked.info.aux["number"], None)
        self._mark_reported(tracked)
        if self._pools is not None and isinstance(tracked.job, PooledJob):
            self._pools.forget(tracked.job)
            self._pooled_names[tracked.job.folder] = tracked.name
        if tracked.share is not None:
            with self._starting:
                self._slots.give_back(tracked.share)

    def _mark_reported(self, tracked: TrackedJob) -> None:
        if tracked.submission is not None and tracked.record is not None:
            self._registry.mark_reported(tracked.submission, tracked.record)

    def _report_failure(self, tracked: TrackedJob, status: int | None, state: states.State | None) -> None:
        assert tracked.job is not None
        if state is None and self._cluster == "slurm" and tracked.job.job_id:
            state = (self._queue.query({tracked.job.job_id}) or {}).get(tracked.job.job_id)
        if is_cancelled(tracked.job.folder):
            forgo_retries(tracked.info.job)
        lost = "Slurm knows nothing of this job any more.\n" if status is None else ""
        self._report(tracked.info, f"{lost}{tracked.job.explain(state)}\n")

    def _report(self, info: SubmittedJobInfo, message: str) -> None:
        """Report that a job has failed, and why; of a group, Snakemake itself does not say why."""
        if info.job is not None and info.job.is_group():
            self.logger.error(message)
        self.report_job_error(info, msg=message)

    async def sleep(self) -> None:
        """Pause briefly: files are checked often, Slurm is queried rarely; with thousands of jobs, the pause is longer."""
        number = len(getattr(self, "_tracked", ()))  # there is none before `__post_init__`: the wait thread starts first
        await asyncio.sleep(TICK_S * max(1.0, number / JOBS_PER_TICK))

    # --- the end

    def cancel(self) -> None:
        """Cancel every job of this run, including those that a status check is handling right now, and return at once."""
        self.wait = False
        self._queue.stop()
        if self._submitter is not None and not self._submitter.stop(2.0):
            stop_sbatch()
            self._submitter.stop(2.0)
            self.logger.warning("sbatch did not answer and was stopped: if it has submitted a job, that job ends by itself")
        if self._pools is not None and not self._detach:
            self._pools.abolish()
        if self._detach:
            left = [tracked for tracked in list(self._tracked.values()) if tracked.job is not None and tracked.serves is None]
            self.logger.info(f"{len(left)} jobs are left running; the same command adopts them")
        else:
            self.cancel_jobs([tracked.info for tracked in list(self._tracked.values())])
        self.shutdown()

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Cancel the given jobs."""
        with self._starting:
            tracked_jobs = [t for info in active_jobs if (t := self._tracked.get(info.aux["number"])) and t.job]
            if self._cluster != "slurm":
                for tracked in tracked_jobs:
                    assert tracked.job is not None
                    tracked.job.cancel()
                return
        failed = states.cancel(_shortest_ids([t for t in tracked_jobs if t.size is None or t.serves is not None]))
        if failed:
            self.logger.error(f"these jobs could not be cancelled; run: scancel {' '.join(failed)}")
            return
        for tracked in tracked_jobs:
            self._mark_reported(tracked)

    def shutdown(self) -> None:
        """Stop the threads; write the efficiency report if it was requested."""
        if self.wait and self._pools is not None:
            self._pools.dismiss()
        if self.wait and self._names:
            self._report_efficiency(self._names)
        self.wait = False
        if self._submitter is not None:
            self._submitter.stop(2.0)
        super().shutdown()

    def _report_efficiency(self, names: dict[str, str]) -> None:
        from snakemake_executor_plugin_submitit.tracking.efficiency import SACCT_LAG_S, write_report

        try:
            self.logger.info(write_report(self._folder, names, self._pooled_names, patience_s=SACCT_LAG_S))
        except OSError as err:
            self.logger.warning(f"{self._folder}: cannot write the efficiency report: {err.strerror}")


def _shortest_ids(tracked_jobs: Sequence[TrackedJob]) -> list[str]:
    """Return the ids to cancel; an array that is cancelled as a whole counts as one."""
    ids: list[str] = []
    by_submission: dict[str, list[TrackedJob]] = {}
    for tracked in tracked_jobs:
        assert tracked.job is not None and tracked.submission is not None
        by_submission.setdefault(tracked.submission.uid, []).append(tracked)
    for group in by_submission.values():
        submission = group[0].submission
        assert submission is not None
        if submission.is_array and submission.job_id is not None and len(group) == len(submission.records):
            ids.append(submission.job_id)
        else:
            ids += [tracked.job.job_id for tracked in group if tracked.job]
    return ids


def _leave_outer_job() -> None:
    """Remove the variables of a Slurm job in which the main process itself runs; submitted jobs must not inherit them."""
    for name in [name for name in os.environ if is_of_outer_job(name)]:
        del os.environ[name]


def _array_name(tracked_jobs: Sequence[TrackedJob]) -> str:
    rules = dict.fromkeys(tracked.name.partition(".")[0] for tracked in tracked_jobs)
    return "+".join(rules)[:120]


def _name(job: JobExecutorInterface) -> str:
    from snakemake_executor_plugin_submitit.submission.submit import safe_name

    if job.is_group():
        return f"group.{str(job.jobid)[:8]}"
    wildcards = ",".join(str(value) for value in dict(job.wildcards).values())
    return safe_name(f"{job.name}.{wildcards}" if wildcards else job.name)
