"""Decide what happens to jobs left by a killed main process: adopt, accept as finished, or resubmit."""

import functools
import hashlib
import json
import re
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
CHANGED = "its code, params or inputs have changed"
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


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
        why = "it also writes other files"
        if len(producers) == 1 and set(outputs) <= set(producers[0][1].outputs):
            reason = self._why_anew(producers[0][1], outputs, job)
            adopted = self._consider(*producers[0], job) if reason is None else None
            if adopted is not None:
                return (*producers[0], adopted)
            why = reason or why
        for submission, record in producers:
            self._stop(submission, record, why)
            self._mark_reported(submission, record)
        return None

    def _why_anew(self, record: Record, outputs: Sequence[str], job: JobExecutorInterface) -> str | None:
        """Return why the job of an earlier run does not make what this run wants, or None if it may."""
        if self._is_forced(outputs, job):
            return "this run was told to make its files anew"
        return CHANGED if _has_changed(record, job) else None

    def _is_forced(self, outputs: Sequence[str], job: JobExecutorInterface) -> bool:
        """Return True if an option names this job; the DAG does not tell, for it forces all incomplete files, too."""
        settings = self._workflow.dag_settings
        if settings.forceall:
            return True
        names = set(settings.forcerun)
        if settings.forcetargets:
            names |= set(settings.targets or filter(None, [self._workflow.default_target]))
        if not names:
            return False
        return not names.isdisjoint(job.rules()) or not {str(Path(name).absolute()) for name in names}.isdisjoint(outputs)

    def _stop(self, submission: Submission, record: Record, why: str) -> None:
        """Cancel a job of an earlier run if it still waits or runs."""
        job_id = submission.job_id_of(record)
        if job_id is not None and _status(record) is None and self._may_live(job_id):
            end = "stops it" if submission.is_pool else "is cancelled"
            self._logger.warning(f"{record.name}: slurm job {job_id} of an earlier run {end} because {why}")
            if not submission.is_pool:
                states.cancel([job_id])
        if submission.is_pool:
            _stop_pooled(submission, record)

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
            if any(_has_changed(record, job) for job in jobs.values()):
                names = " ".join(sorted({job.rule.name for job in jobs.values()}))
                self._logger.warning(
                    f"{record.name}: finished while Snakemake was away, but {CHANGED} since it was submitted; "
                    f"--forcerun {names} makes its files anew"
                )
                continue
            for job in jobs.values():
                self._workflow.async_run(self._workflow.persistence.finished(job))
            self._logger.info(f"{record.name}: finished while Snakemake was away, slurm job {submission.job_id_of(record)}")
            self._mark_reported(submission, record)

    def _mark_reported(self, submission: Submission, record: Record) -> None:
        self._registry.mark_reported(submission, record)
        self._left.drop(record)


def digests_of(job: Any) -> tuple[str, ...]:
    """Return a digest of what each job of a group, or a single job, computes; nothing if Snakemake does not tell."""
    try:
        return tuple(sorted({_digest(each) for each in (job.jobs if job.is_group() else [job])}))
    except Exception:  # Snakemake's private parts may change, and the workflow's functions may raise anything
        return ()


def _digest(job: Any) -> str:
    """Return the user's rerun triggers, and a digest of what of a job they are about: code, names of inputs, and params.

    It is the same in each run.
    """
    workflow = job.dag.workflow
    persistence = workflow.persistence
    triggers = {trigger.name for trigger in workflow.rerun_triggers}
    parts: dict[str, Any] = {}
    if "CODE" in triggers:
        parts["code"] = persistence._code(job.rule)
        if written := job.rule.script or job.rule.notebook:
            parts["script"] = _script_digest(job._path_to_source_file(written))
    if "INPUT" in triggers:
        parts["input"] = sorted(map(str, persistence._input(job)))
    if "PARAMS" in triggers:
        params = (persistence._serialize_param(_with_sorted_sets(value)) for value in job.non_derived_params)
        parts["params"] = sorted(each for each in params if isinstance(each, str))
    text = json.dumps(parts, ensure_ascii=False)
    text = text.replace(str(workflow.sourcecache.runtime_cache_path), "")  # where `workflow.source_path` leads in this run
    return f"{','.join(parts)}:{hashlib.sha256(ADDRESS.sub('', text).encode()).hexdigest()}"


def _script_digest(source: Any) -> str:
    """Return a digest of a script or notebook, a source file of Snakemake's; its address if it is on another machine."""
    path = source.get_path_or_uri(secret_free=True)
    if not source.is_local:
        return str(path)
    about = Path(path).stat()
    return _file_digest(path, about.st_mtime_ns, about.st_size)


@functools.lru_cache
def _file_digest(path: str, modified_ns: int, size: int) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _with_sorted_sets(value: Any) -> Any:
    """Return a value with lists for its sets, whose order differs from process to process."""
    if isinstance(value, set | frozenset):
        return sorted(repr(_with_sorted_sets(each)) for each in value)
    if isinstance(value, dict):
        return {key: _with_sorted_sets(each) for key, each in value.items()}
    return [_with_sorted_sets(each) for each in value] if type(value) in (list, tuple) else value


def _has_changed(record: Record, job: Any) -> bool:
    """Return True if a job is known to compute something else than what was submitted, which may be a group with more jobs.

    Only what the rerun triggers of both runs are about is compared: with `rerun-triggers: mtime`, for instance, nothing.
    """
    now = digests_of(job)
    comparable = {digest.partition(":")[0] for digest in (*now, *record.digests)}
    return bool(record.digests) and len(comparable) == 1 and not set(now) <= set(record.digests)


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
