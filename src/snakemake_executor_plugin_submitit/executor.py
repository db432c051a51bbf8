"""Snakemake's executor interface, thin: what to submit, how jobs stand, what to tell the user."""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

from snakemake_executor_plugin_submitit import states
from snakemake_executor_plugin_submitit.local_slots import Share, SlotPool
from snakemake_executor_plugin_submitit.resources import Request, parse_resources

if TYPE_CHECKING:
    from snakemake_executor_plugin_submitit.submit import SubmittedJob

TICK_S = 0.25
FIRST_QUESTION_S = 2.0
LOST_S = 120.0


@dataclass
class _Ticket:
    """A job of the workflow: waiting for local room, or submitted."""

    info: SubmittedJobInfo
    request: Request
    command: str
    name: str
    job: "SubmittedJob | None" = None
    share: Share | None = None
    last_seen: float = 0.0


class Executor(RemoteExecutor):
    """Runs the jobs of a workflow as Slurm jobs, or on this machine, through submitit."""

    def __post_init__(self) -> None:
        """Set up after Snakemake's part; the wait thread is running already."""
        settings = self.workflow.executor_settings
        self._cluster = settings.cluster
        self._folder = settings.folder
        self._run_id = uuid.uuid4().hex[:12]
        self._max_pause_s = settings.poll_seconds
        self._queue = states.SlurmQueue()
        self._pool = SlotPool(settings.local_cpus, settings.local_gpus, settings.local_mem_mb)

    @property
    def _tickets(self) -> dict[str, _Ticket]:
        """The live jobs by id; made on first use, as the wait thread may come before `__post_init__`."""
        return self.__dict__.setdefault("_live", {})

    def run_job(self, job: JobExecutorInterface) -> None:
        """Submit a job, or queue it until this machine has room."""
        info = SubmittedJobInfo(job)
        try:
            request = parse_resources(job.resources, threads=job.threads)
            ticket = _Ticket(info, request, self._command(job), _name(job))
            if self._cluster == "local":
                self._pool.check(request)
                info.external_jobid = f"local-{uuid.uuid4().hex[:8]}"
            else:
                self._start(ticket, ())
        except WorkflowError as err:
            self.report_job_error(info, msg=f"{_name(job)}: {err}\n")
            return
        ticket.last_seen = time.monotonic()
        self._next_question = 0.0
        self._pause_s = FIRST_QUESTION_S
        self._tickets[str(info.external_jobid)] = ticket
        self.report_job_submission(info)
        self._start_waiting()

    def _command(self, job: JobExecutorInterface) -> str:
        command = self.format_job_exec(job)
        return command.replace(" -m snakemake ", " -m snakemake_executor_plugin_submitit.shim ", 1)

    def _start(self, ticket: _Ticket, gpus: Iterable[int]) -> None:
        from snakemake_executor_plugin_submitit.submit import submit

        ticket.job = submit(
            ticket.command,
            cluster=self._cluster,
            folder=self._folder,
            name=ticket.name,
            resources=ticket.request,
            comment=f"snakemake {self._run_id}",
            gpus=tuple(gpus),
        )
        if ticket.info.external_jobid is None:
            ticket.info.external_jobid = ticket.job.job_id
        self.logger.info(f"{ticket.name}: {self._cluster} job {ticket.job.job_id}, log {ticket.job.log_path}")

    def _start_waiting(self) -> None:
        """Local only: start the jobs for which there is room, oldest first."""
        if self._cluster != "local":
            return
        with self._starting():
            for ticket in list(self._tickets.values()):
                if ticket.job is None and self.wait:
                    ticket.share = self._pool.take(ticket.request)
                    if ticket.share is not None:
                        self._start(ticket, ticket.share.gpus)

    def _starting(self) -> Any:
        import threading

        return self.__dict__.setdefault("_start_lock", threading.RLock())

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Report the jobs that ended; yield the others."""
        if not active_jobs:  # also before `__post_init__`: the wait thread starts first
            return
        answers = self._ask_slurm(active_jobs)
        for info in active_jobs:
            ticket = self._tickets.get(str(info.external_jobid))
            if ticket is None:
                continue
            state = None if answers is None else answers.get(str(info.external_jobid))
            status = None if ticket.job is None else ticket.job.poll(state)
            if status is None and not self._is_lost(ticket, answers, state):
                yield info
                continue
            self._finish(ticket, status, state)
        self._start_waiting()

    def _ask_slurm(self, active_jobs: list[SubmittedJobInfo]) -> dict[str, states.State] | None:
        now = time.monotonic()
        if self._cluster == "local" or now < getattr(self, "_next_question", 0.0):
            return None
        self._pause_s = min(self._max_pause_s, 1.5 * getattr(self, "_pause_s", FIRST_QUESTION_S))
        answers = self._queue.ask({str(info.external_jobid) for info in active_jobs})
        ended = any(not state.is_alive for state in (answers or {}).values())
        self._next_question = time.monotonic() + (FIRST_QUESTION_S if ended else self._pause_s)
        return answers

    def _is_lost(self, ticket: _Ticket, answers: dict[str, states.State] | None, state: states.State | None) -> bool:
        if ticket.job is None or answers is None or state is not None:
            ticket.last_seen = time.monotonic() if state is not None or ticket.job is None else ticket.last_seen
            return False
        return time.monotonic() - ticket.last_seen > LOST_S

    def _finish(self, ticket: _Ticket, status: int | None, state: states.State | None) -> None:
        del self._tickets[str(ticket.info.external_jobid)]
        if ticket.share is not None:
            self._pool.give_back(ticket.share)
        if status == 0:
            self.report_job_success(ticket.info)
            return
        assert ticket.job is not None
        if state is None and self._cluster == "slurm":
            state = (self._queue.ask({ticket.job.job_id}) or {}).get(ticket.job.job_id)
        lost = "Slurm knows nothing of this job any more.\n" if status is None else ""
        self.report_job_error(ticket.info, msg=f"{lost}{ticket.job.explain(state)}\n")

    async def sleep(self) -> None:
        """A short pause; files are looked at often, Slurm is asked seldom."""
        await asyncio.sleep(TICK_S)

    def cancel(self) -> None:
        """Cancel every job of this run, also those that a check holds just now, and return at once."""
        self.wait = False
        tickets = list(self._tickets.values())
        self.cancel_jobs([ticket.info for ticket in tickets])
        self.shutdown()

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Cancel jobs."""
        with self._starting():
            jobs = [t.job for info in active_jobs if (t := self._tickets.get(str(info.external_jobid))) and t.job]
            if self._cluster == "slurm":
                states.cancel([job.job_id for job in jobs])
            else:
                for job in jobs:
                    job.cancel()


def _name(job: JobExecutorInterface) -> str:
    if job.is_group():
        return f"group.{str(job.jobid)[:8]}"
    wildcards = ",".join(str(value) for value in dict(job.wildcards).values())
    return re.sub(r"[^A-Za-z0-9_.,=-]", "_", f"{job.name}.{wildcards}" if wildcards else job.name)[:120]
