"""Snakemake's executor interface, thin: what to submit, how jobs stand, what to tell the user."""

import asyncio
import contextlib
import itertools
import os
import shlex
import threading
import time
import uuid
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface
from snakemake_interface_executor_plugins.utils import format_cli_arg

from snakemake_executor_plugin_submitit.submission import states
from snakemake_executor_plugin_submitit.tracking.adoption import Adopter
from snakemake_executor_plugin_submitit.jsonfile import read_result
from snakemake_executor_plugin_submitit.request.local_slots import Share, SlotPool
from snakemake_executor_plugin_submitit.request.partitions import choose_partition, read_partitions
from snakemake_executor_plugin_submitit.processes import ProcessId
from snakemake_executor_plugin_submitit.request.quoting import shell_quotes
from snakemake_executor_plugin_submitit.tracking.registry import Record, Registry, Submission
from snakemake_executor_plugin_submitit.request.resources import Request, find_slips, parse_resources

if TYPE_CHECKING:
    from snakemake_executor_plugin_submitit.submission.submit import SubmittedJob
    from snakemake_executor_plugin_submitit.submission.submitter import Submitter

TICK_S = 0.25
MAX_RESUBMISSIONS = 5
NAMES_SHOWN = 4
OF_AN_OUTER_JOB = ("SLURM_", "SLURMD_", "SUBMITIT_", "SPMD_")
KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")


@dataclass
class _Ticket:
    """A job of the workflow: waiting to be submitted, or submitted."""

    info: SubmittedJobInfo
    request: Request
    command: str
    name: str
    outputs: tuple[str, ...]
    job: "SubmittedJob | None" = None
    submission: Submission | None = None
    record: Record | None = None
    share: Share | None = None
    refusal: str | None = None
    resubmissions: int = 0
    excluded: set[str] = field(default_factory=set)


class Executor(RemoteExecutor):
    """Runs the jobs of a workflow as Slurm jobs, or on this machine, through submitit."""

    def __post_init__(self) -> None:
        """Set up after Snakemake's part; the wait thread is running already."""
        from snakemake_executor_plugin_submitit.submission.submit import ENDED

        settings = self.workflow.executor_settings
        self._cluster = settings.cluster
        self._folder = Path(settings.folder).absolute()
        self._ended = self._folder / ENDED
        self._detach = settings.detach
        if self._detach and self._cluster == "local":
            raise WorkflowError("--submitit-detach needs cluster slurm: jobs on this machine end with the main process")
        self._run_id = uuid.uuid4().hex[:12]
        self._max_pause_s = settings.poll_seconds
        self._queue = states.SlurmQueue()
        self._numbers = itertools.count()
        self._reasons_told: set[str] = set()
        self._names_seen: set[str] = set()
        self._rules_warned: set[str] = set()
        self._next_question, self._pause_s = 0.0, states.FIRST_PAUSE_S
        self._tickets: dict[int, _Ticket] = {}
        self._starting = threading.RLock()
        self._submitter: Submitter[_Ticket] | None = None
        self._pool = SlotPool(settings.local_cpus, settings.local_gpus, settings.local_mem_mb)
        if self._cluster == "slurm":
            _leave_outer_job()
        self._registry = Registry(self._folder)
        self._adopter = Adopter(self._registry, self._queue, self.workflow, self.logger)
        self._retention(settings.keep_days)
        self._partitions_file = settings.partitions if self._cluster == "slurm" else None
        self._partitions = read_partitions(self._partitions_file) if self._partitions_file else []
        self._names: dict[str, str] | None = {} if settings.efficiency_report and self._cluster == "slurm" else None

    def _wait_thread(self) -> None:
        """As the base class, which prints an error before it reports it: with nobody to read the output the run would hang."""
        try:
            super()._wait_thread()
        except OSError as err:
            self.workflow.scheduler.executor_error_callback(err)

    def _retention(self, days: int) -> None:
        from snakemake_executor_plugin_submitit.tracking.retention import remove_old

        keep = self._adopter.places
        threading.Thread(target=remove_old, args=(self._folder, days, keep), daemon=True).start()

    def run_jobs(self, jobs: list[JobExecutorInterface]) -> None:
        """Take the jobs that are ready: adopt those that run already, submit the others."""
        tickets = []
        for job in jobs:
            self.run_job_pre(job)
            ticket = self._ticket(job)
            if ticket is not None and not self._adopt(ticket):
                tickets.append(ticket)
        if tickets and self._cluster == "slurm":
            self._sender().add(tickets)
        else:
            self._start_waiting()

    def run_job(self, job: JobExecutorInterface) -> None:
        """Take one job."""
        self.run_jobs([job])

    def _ticket(self, job: JobExecutorInterface) -> _Ticket | None:
        info = SubmittedJobInfo(job, aux={"ticket": next(self._numbers)})
        name = _name(job)
        self._warn_of_slips(job.resources.keys())
        try:
            request = parse_resources(job.resources, threads=job.threads)
            if self._partitions_file:
                request = choose_partition(request, self._partitions, self._partitions_file)
            if self._cluster == "local":
                self._pool.check(request)
            outputs = tuple(str(Path(file).absolute()) for file in job.output)
            ticket = _Ticket(info, request, self._command(job), name, outputs)
        except WorkflowError as err:
            self.report_job_error(info, msg=f"{name}: {err}\n")
            return None
        self._tickets[info.aux["ticket"]] = ticket
        self._warn_of_idle_ranks(job, request)
        self.report_job_submission(info)
        return ticket

    def _warn_of_slips(self, names: Iterable[str]) -> None:
        new = set(names) - self._names_seen
        self._names_seen |= new
        for slip, name in find_slips(new).items():
            self.logger.warning(f"resource {slip} means nothing to Slurm here and was left to Snakemake; did you mean {name}?")

    def _warn_of_idle_ranks(self, job: JobExecutorInterface, request: Request) -> None:
        command = None if job.is_group() else getattr(job, "shellcmd", None)
        if request.num_ranks > 1 and command and "spmd" not in command and job.name not in self._rules_warned:
            self._rules_warned.add(job.name)
            self.logger.warning(
                f"{job.name}: the job has {request.num_ranks} ranks, and only the first will do anything; begin the command with "
                "spmd, set the resource mpi if it starts its tasks itself, or ask for threads instead of tasks"
            )

    def _adopt(self, ticket: _Ticket) -> bool:
        found = self._adopter.find(ticket.outputs, ticket.info.job) if self._cluster == "slurm" else None
        if found is None:
            return False
        ticket.submission, ticket.record, job = found
        self._note_submitted(ticket, job)
        self.logger.info(f"{ticket.name}: adopted slurm job {job.job_id}, log {job.log_path}")
        return True

    def _command(self, job: JobExecutorInterface) -> str:
        with shell_quotes():
            command = self.format_job_exec(job)
        return command.replace(" -m snakemake ", " -m snakemake_executor_plugin_submitit.job.shim ", 1)

    def get_job_args(self, job: JobExecutorInterface, **kwargs: Any) -> str:
        """Arguments of Snakemake in the job: it waits for its inputs, not for a folder that goes with this process."""
        arguments = super(RemoteExecutor, self).get_job_args(job, **kwargs)
        files = list(job.get_wait_for_files())
        if len(files) <= 20:
            return f"{arguments} {format_cli_arg('--wait-for-files', files, skip=not files)}"
        folder = self._folder / "inputs"
        folder.mkdir(parents=True, exist_ok=True)
        listing = folder / f"{uuid.uuid4().hex}.txt"
        listing.write_text("\n".join(map(str, files)) + "\n", encoding="utf-8")
        return f"{arguments} {format_cli_arg('--wait-for-files-file', listing)}"

    def get_python_executable(self) -> str:
        """Python in the job, quoted for a shell."""
        return shlex.quote(super().get_python_executable())

    # --- submission

    def _sender(self) -> "Submitter[_Ticket]":
        if self._submitter is None:
            from snakemake_executor_plugin_submitit.submission.submitter import Submitter

            self._submitter = Submitter(
                self._send,
                lambda ticket: (repr(ticket.request), tuple(sorted(ticket.excluded))),
                most=self.workflow.executor_settings.array_size,
                say=self.logger.warning,
            )
        return self._submitter

    def _send(self, tickets: Sequence[_Ticket]) -> None:
        """In the submitter's thread: one call of sbatch. What is refused for good is noted for the wait thread."""
        from snakemake_executor_plugin_submitit.submission.submit import BusyError

        tickets = [ticket for ticket in tickets if ticket.job is None]  # when a half of them was sent before
        if not tickets:
            return
        try:
            self._submit(tickets)
        except BusyError:
            raise
        except (WorkflowError, OSError) as err:
            if len(tickets) > 1 and "array" in str(err).lower():
                half = (len(tickets) + 1) // 2  # more than the site's MaxArraySize
                self._sender().most = half
                self._send(tickets[:half])
                self._send(tickets[half:])
                return
            for ticket in tickets:
                ticket.refusal = str(err)
        except Exception as err:  # were this thread to die, the run would wait for ever
            for ticket in tickets:
                ticket.refusal = f"the job cannot be submitted: {type(err).__name__}: {err}"

    def _submit(self, tickets: Sequence[_Ticket], gpus: Iterable[int] = ()) -> None:
        from snakemake_executor_plugin_submitit.submission.submit import array_folder, plan, send

        first = tickets[0]
        try:
            self._ended.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise WorkflowError(f"--submitit-folder {self._folder}: no folder can be made here: {err.strerror}") from err
        owner = ProcessId.own() if self._cluster == "local" else None
        plans = [
            plan(t.command, folder=self._folder, name=t.name, request=t.request, ended=self._ended, owner=owner) for t in tickets
        ]
        folder = plans[0].place if len(plans) == 1 else array_folder(self._folder)
        records = [Record(t.name, str(p.place), t.outputs) for t, p in zip(tickets, plans, strict=True)]
        submission = Submission(str(folder), records, is_array=len(plans) > 1)
        if self._cluster == "slurm":
            self._registry.note(submission)
        try:
            jobs = send(
                plans,
                cluster=self._cluster,
                folder=folder,
                request=first.request,
                name=first.name if len(tickets) == 1 else _array_name(tickets),
                comment=f"snakemake {self._run_id}",
                exclude=first.excluded,
                gpus=tuple(gpus),
            )
        except BaseException:
            self._registry.forget(submission)
            for place in {folder, *(each.place for each in plans)}:
                with contextlib.suppress(OSError):
                    place.rmdir()
            raise
        submission.job_id = jobs[0].job_id.partition("_")[0]
        if self._cluster == "slurm":
            self._registry.note(submission)
        for ticket, job, record in zip(tickets, jobs, records, strict=True):
            ticket.submission, ticket.record = submission, record
            self._note_submitted(ticket, job)
        self._tell_submitted(tickets, submission.job_id)

    def _note_submitted(self, ticket: _Ticket, job: "SubmittedJob") -> None:
        ticket.info.external_jobid = job.job_id
        ticket.job = job
        if self._names is not None:
            self._names[job.job_id] = ticket.name
        self._pause_s = states.FIRST_PAUSE_S
        self._next_question = min(self._next_question, time.monotonic() + self._pause_s)

    def _tell_submitted(self, tickets: Sequence[_Ticket], job_id: str) -> None:
        job = tickets[0].job
        assert job is not None
        if len(tickets) == 1:
            self.logger.info(f"{tickets[0].name}: {self._cluster} job {job_id}, log {job.log_path}")
        else:
            logs = self._folder / "<name>" / "latest"
            self.logger.info(f"{len(tickets)} jobs as array {job_id}: {_names(tickets)}; logs in {logs}")

    def _start_waiting(self) -> None:
        """Local only: start the jobs for which there is room, oldest first."""
        if self._cluster != "local":
            return
        with self._starting:
            for ticket in list(self._tickets.values()):
                if ticket.job is None and ticket.refusal is None and self.wait:
                    ticket.share = self._pool.take(ticket.request)
                    if ticket.share is None:
                        continue
                    try:
                        self._submit([ticket], ticket.share.gpus)
                    except (WorkflowError, OSError) as err:
                        ticket.refusal = str(err)

    # --- how jobs stand

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Report the jobs that ended; yield the others."""
        if not active_jobs:  # also before `__post_init__`: the wait thread starts first
            return
        marks = self._end_marks()
        answers = self._ask_slurm()
        for info in active_jobs:
            ticket = self._tickets[info.aux["ticket"]]
            if not self._settle(ticket, answers, marks):
                yield info
        self._start_waiting()

    def _end_marks(self) -> set[str]:
        try:
            return set(os.listdir(self._ended))  # noqa: PTH208 - the names, not paths: cheap for thousands
        except OSError:
            return set()

    def _ask_slurm(self) -> dict[str, states.State] | None:
        if self._cluster == "local" or time.monotonic() < self._next_question:
            return None
        ids = {job.job_id for ticket in list(self._tickets.values()) if (job := ticket.job) is not None}
        if not ids:
            return None
        self._pause_s = min(self._max_pause_s, states.PAUSE_GROWTH * self._pause_s)
        answers = self._queue.ask(ids)
        ended = any(not state.is_alive for state in (answers or {}).values())
        self._next_question = time.monotonic() + min(self._max_pause_s, states.FIRST_PAUSE_S if ended else self._pause_s)
        self._tell_reasons(answers or {})
        return answers

    def _tell_reasons(self, answers: dict[str, states.State]) -> None:
        """Say once for every reason why jobs wait."""
        waiting: dict[str, list[_Ticket]] = {}
        for ticket in list(self._tickets.values()):
            state = answers.get(ticket.job.job_id) if ticket.job else None
            if state and state.name == "PENDING" and state.reason and state.reason not in self._reasons_told:
                waiting.setdefault(state.reason, []).append(ticket)
        for reason, tickets in waiting.items():
            self._reasons_told.add(reason)
            if states.HOPELESS.search(reason):
                advice = "; it will not start as it is: stop this run, lower what the job asks for or choose another partition"
                self.logger.warning(f"waiting in Slurm's queue, reason {reason}: {_names(tickets)}{advice}")
            else:
                self.logger.info(f"waiting in Slurm's queue, reason {reason}: {_names(tickets)}")

    def _settle(self, ticket: _Ticket, answers: dict[str, states.State] | None, marks: set[str]) -> bool:
        """Report a job's outcome, or have it submitted again; whether it was reported."""
        if ticket.refusal is not None:
            self._drop(ticket)
            self.report_job_error(ticket.info, msg=f"{ticket.name}: {ticket.refusal}\n")
            return True
        if ticket.job is None:
            return False
        from snakemake_executor_plugin_submitit.submission.submit import end_mark

        mark = end_mark(ticket.job.folder)
        state = None if answers is None else answers.get(ticket.job.job_id)
        status = ticket.job.poll(state, look=mark in marks)
        is_lost = answers is not None and ticket.job.is_lost(state)
        if status is None and not is_lost:
            return False
        if status is None:
            status = ticket.job.poll()  # the mark of its end may be missing
        if mark in marks:
            with contextlib.suppress(OSError):
                (self._ended / mark).unlink()
        if status != 0 and self._resubmit(ticket, state):
            return False
        self._drop(ticket)
        if status == 0:
            self.report_job_success(ticket.info)
        else:
            self._report_failure(ticket, status, state)
        return True

    def _resubmit(self, ticket: _Ticket, state: states.State | None) -> bool:
        """A job that lost its place through no fault of its own is submitted again, without using up a retry."""
        assert ticket.job is not None
        if self._cluster == "local" or ticket.resubmissions >= MAX_RESUBMISSIONS:
            return False
        failure = (read_result(ticket.job.folder) or {}).get("failure", {})
        if failure.get("node_down"):
            nodes: tuple[str, ...] = (failure["host"],)
            why = f"node {failure['host']} failed"
            states.cancel([ticket.job.job_id])
        elif state is not None and state.name in states.LOST_PLACE and not failure:
            nodes = states.failed_nodes(state)
            why = f"state {state.name}" + (f", node {', '.join(nodes)}" if nodes else "")
        else:
            return False
        self.logger.warning(f"{ticket.name}: slurm job {ticket.job.job_id} lost its place ({why}); it is submitted again")
        self._settle_record(ticket)
        ticket.resubmissions += 1
        ticket.excluded.update(nodes)
        ticket.job = ticket.info.external_jobid = None
        self._sender().add([ticket])
        return True

    def _drop(self, ticket: _Ticket) -> None:
        self._tickets.pop(ticket.info.aux["ticket"], None)
        self._settle_record(ticket)
        if ticket.share is not None:
            with self._starting:
                self._pool.give_back(ticket.share)

    def _settle_record(self, ticket: _Ticket) -> None:
        if ticket.submission is not None and ticket.record is not None:
            self._registry.settle(ticket.submission, ticket.record)

    def _report_failure(self, ticket: _Ticket, status: int | None, state: states.State | None) -> None:
        assert ticket.job is not None
        if state is None and self._cluster == "slurm":
            state = (self._queue.ask({ticket.job.job_id}) or {}).get(ticket.job.job_id)
        lost = "Slurm knows nothing of this job any more.\n" if status is None else ""
        self.report_job_error(ticket.info, msg=f"{lost}{ticket.job.explain(state)}\n")

    async def sleep(self) -> None:
        """A short pause; files are looked at often, Slurm is asked seldom."""
        await asyncio.sleep(TICK_S)

    # --- the end

    def cancel(self) -> None:
        """Cancel every job of this run, also those that a check holds just now, and return at once."""
        self.wait = False
        self._queue.stop()
        if self._submitter is not None and not self._submitter.stop(2.0):
            self.logger.warning("sbatch does not answer: a job may appear in the queue; it will end by itself")
        if self._detach:
            left = [ticket for ticket in list(self._tickets.values()) if ticket.job is not None]
            self.logger.info(f"{len(left)} jobs are left running; the same command adopts them")
        else:
            self.cancel_jobs([ticket.info for ticket in list(self._tickets.values())])
        self.shutdown()

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Cancel jobs."""
        with self._starting:
            tickets = [t for info in active_jobs if (t := self._tickets.get(info.aux["ticket"])) and t.job]
            if self._cluster == "local":
                for ticket in tickets:
                    assert ticket.job is not None
                    ticket.job.cancel()
                return
        failed = states.cancel(_shortest_ids(tickets))
        if failed:
            self.logger.error(f"these jobs could not be cancelled; run: scancel {' '.join(failed)}")
            return
        for ticket in tickets:
            self._settle_record(ticket)

    def shutdown(self) -> None:
        """End the threads."""
        if self.wait and self._names:
            self._report_efficiency(self._names)
        self.wait = False
        if self._submitter is not None:
            self._submitter.stop(2.0)
        super().shutdown()

    def _report_efficiency(self, names: dict[str, str]) -> None:
        from snakemake_executor_plugin_submitit.tracking.efficiency import LATENESS_S, write_report

        try:
            self.logger.info(write_report(self._folder, names, patience_s=LATENESS_S))
        except OSError as err:
            self.logger.warning(f"{self._folder}: cannot write the efficiency report: {err.strerror}")


def _shortest_ids(tickets: Sequence[_Ticket]) -> list[str]:
    """Ids to cancel: an array of which all jobs are meant by its own."""
    ids: list[str] = []
    by_submission: dict[str, list[_Ticket]] = {}
    for ticket in tickets:
        assert ticket.job is not None and ticket.submission is not None
        by_submission.setdefault(ticket.submission.uid, []).append(ticket)
    for group in by_submission.values():
        submission = group[0].submission
        assert submission is not None
        if submission.is_array and submission.job_id is not None and len(group) == len(submission.records):
            ids.append(submission.job_id)
        else:
            ids += [ticket.job.job_id for ticket in group if ticket.job]
    return ids


def _leave_outer_job() -> None:
    """When the main process runs in a Slurm job itself, its variables must not reach the jobs that it submits."""
    for name in [name for name in os.environ if name.startswith(OF_AN_OUTER_JOB) and name not in KEPT]:
        del os.environ[name]


def _names(tickets: Sequence[_Ticket]) -> str:
    names = ", ".join(ticket.name for ticket in tickets[:NAMES_SHOWN])
    return names if len(tickets) <= NAMES_SHOWN else f"{names} and {len(tickets) - NAMES_SHOWN} more"


def _array_name(tickets: Sequence[_Ticket]) -> str:
    rules = dict.fromkeys(ticket.name.partition(".")[0] for ticket in tickets)
    return "+".join(rules)[:120]


def _name(job: JobExecutorInterface) -> str:
    from snakemake_executor_plugin_submitit.submission.submit import safe_name

    if job.is_group():
        return f"group.{str(job.jobid)[:8]}"
    wildcards = ",".join(str(value) for value in dict(job.wildcards).values())
    return safe_name(f"{job.name}.{wildcards}" if wildcards else job.name)
