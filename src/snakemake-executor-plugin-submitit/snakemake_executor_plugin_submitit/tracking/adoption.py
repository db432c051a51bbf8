"""Decide what happens to jobs left by a killed main process: adopt, accept as finished, or resubmit."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

from snakemake_executor_plugin_submitit.jsonfile import read_result
from snakemake_executor_plugin_submitit.submission import states
from snakemake_executor_plugin_submitit.tracking.registry import Leftovers, Record, Registry, Submission, ticket_of
from snakemake_executor_plugin_submitit.worker.tickets import TicketFolder

if TYPE_CHECKING:
    from snakemake_executor_plugin_submitit.submission.submit import SubmittedJob

STATE_CACHE_S = 20.0


class Adopter:
    """Find, for a job that is about to run, the one that an earlier main process submitted for the same outputs."""

    def __init__(self, registry: Registry, queue: states.SlurmQueue, workflow: Any, logger: Any) -> None:
        """Read the registry, and record the provenance of outputs that were finished in the meantime."""
        self._registry, self._queue, self._workflow, self._logger = registry, queue, workflow, logger
        self._left = Leftovers(registry.load())
        self._states: dict[str, states.State] | None = None
        self._queried_at: float | None = None
        self._tickets: dict[str, TicketFolder] = {}
        self.job_dirs = {Path(record.job_dir) for _, record in self._left.all()} | {
            Path(submission.folder) for submission, _ in self._left.all()
        }
        self._note_finished()

    def find(self, outputs: Sequence[str], job: JobExecutorInterface) -> "tuple[Submission, Record, SubmittedJob] | None":
        """Return the submission to adopt, or None if the job must be submitted; never leave two jobs that write one file."""
        producers = [(s, r) for s, r in self._left.producers_of(outputs) if not _ended_badly_in_this_run(r)]
        if len(producers) == 1 and set(outputs) <= set(producers[0][1].outputs):
            adopted = self._consider(*producers[0], job)
            if adopted is not None:
                return (*producers[0], adopted)
        for submission, record in producers:
            if submission.is_pool:
                _stop_pooled(submission, record)
                self._mark_reported(submission, record)
                continue
            job_id = submission.job_id_of(record)
            if job_id is not None and _status(record) is None and self._may_live(job_id):
                self._logger.warning(
                    f"{record.name}: slurm job {job_id} of an earlier run is cancelled because it also writes other files"
                )
                states.cancel([job_id])
            self._mark_reported(submission, record)
        return None

    def _consider(self, submission: Submission, record: Record, job: JobExecutorInterface) -> "SubmittedJob | None":
        from snakemake_executor_plugin_submitit.submission.submit import SubmittedJob

        if submission.is_pool and _status(record) is None:
            tickets = self._tickets.setdefault(submission.folder, TicketFolder(Path(submission.folder)))
            tickets.withdraw(ticket_of(record))  # one that waits is queued anew
        job_id = submission.job_id_of(record)
        status = _status(record)
        if status is None and (job_id is None or not self._may_live(job_id)):
            status = _status(record)  # it may have ended between the two checks
            if status is None:
                return None
        if status is not None and (status != 0 or not self._is_up_to_date(record, job)):
            return None
        if submission.is_pool:
            return _pooled_job(submission, record)
        assert job_id is not None
        return SubmittedJob("slurm", Path(record.job_dir), record.name, job_id, logs=Path(submission.folder))

    def _may_live(self, job_id: str) -> bool:
        """Return True if Slurm reports the job as alive or knows nothing of it; the executor then keeps querying."""
        if self._queried_at is None or time.monotonic() - self._queried_at >= STATE_CACHE_S:
            ids = [each for submission, record in self._left.all() if (each := submission.job_id_of(record)) is not None]
            self._states, self._queried_at = self._queue.query(ids), time.monotonic()
        state = (self._states or {}).get(job_id)
        return state is None or state.is_alive

    def _is_up_to_date(self, record: Record, job: JobExecutorInterface) -> bool:
        """Return True if the outputs made meanwhile are acceptable: present, not older than the inputs, not forced."""
        settings = self._workflow.dag_settings
        if settings.forceall or settings.forcerun or settings.forcetargets:
            return False
        try:
            made = min((Path(output).stat().st_mtime for output in record.outputs), default=0.0)
        except OSError:
            return False
        inputs = [file for file in job.input if not getattr(file, "flags", {}).get("ancient") and Path(file).exists()]
        return all(Path(file).stat().st_mtime <= made for file in inputs)

    def _note_finished(self) -> None:
        """Record the provenance of outputs finished while no main process was there, as Snakemake would have done."""
        finished = [(s, r) for s, r in self._left.all() if _status(r) == 0]
        if not finished:
            return
        dag = self._workflow.dag
        idle = {str(Path(file).absolute()): job for job in dag.jobs if not dag.needrun(job) for file in job.output}
        for submission, record in finished:
            jobs = {id(idle[output]): idle[output] for output in record.outputs if output in idle}
            if not jobs or any(output not in idle for output in record.outputs if Path(output).exists()):
                continue
            for job in jobs.values():
                self._workflow.async_run(self._workflow.persistence.finished(job))
            self._logger.info(f"{record.name}: finished while Snakemake was away, slurm job {submission.job_id_of(record)}")
            self._mark_reported(submission, record)

    def _mark_reported(self, submission: Submission, record: Record) -> None:
        self._registry.mark_reported(submission, record)
        self._left.drop(record)


def _pooled_job(submission: Submission, record: Record) -> "SubmittedJob":
    from snakemake_executor_plugin_submitit.submission.pooled_job import PooledJob

    tickets, uid = TicketFolder(Path(submission.folder)), ticket_of(record)
    job = PooledJob("slurm", Path(record.job_dir), record.name, uid, tickets)
    job.see(waits=False, worker=tickets.claimed().get(uid))
    return job


def _stop_pooled(submission: Submission, record: Record) -> None:
    """Withdraw a ticket; if a worker has claimed it, remove the claim, which stops the job."""
    tickets, uid = TicketFolder(Path(submission.folder)), ticket_of(record)
    if not tickets.withdraw(uid):
        tickets.revoke(uid)


def _ended_badly_in_this_run(record: Record) -> bool:
    """Return True if Snakemake was told that the job ended without a result; a retry then needs a new submission."""
    return record.is_reported and _status(record) is None


def _status(record: Record) -> int | None:
    result = read_result(Path(record.job_dir))
    return None if result is None else int(result["status"])
