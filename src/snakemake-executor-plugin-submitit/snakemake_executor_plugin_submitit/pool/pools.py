"""The pools of a run: their tickets, how many workers they need, where each ticket is.

A pool is created when the first job with its needs is ready. It grows with the number of tickets that wait or run, up to its
size, and shrinks by itself, because idle workers exit. A new main process creates new pools: it withdraws the waiting tickets
from those that an earlier one left, and follows the jobs that their workers still run.
"""

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_submitit.jsonfile import read_result
from snakemake_executor_plugin_submitit.pool.command import snakemake_call
from snakemake_executor_plugin_submitit.pool.verdict import Verdict, judge
from snakemake_executor_plugin_submitit.processes import ProcessId
from snakemake_executor_plugin_submitit.request.pooling import MARGIN_S, PoolSize, capacity, covers, shared_needs
from snakemake_executor_plugin_submitit.request.resources import Request
from snakemake_executor_plugin_submitit.submission import states
from snakemake_executor_plugin_submitit.submission.pooled_job import PooledJob
from snakemake_executor_plugin_submitit.submission.submit import Plan, new_job_folder
from snakemake_executor_plugin_submitit.worker.task import Terms, WorkerTask
from snakemake_executor_plugin_submitit.worker.tickets import (
    CLAIMS,
    POOLS,
    Claim,
    Ticket,
    TicketFolder,
    done_marker,
    job_id_of,
    read_ticket,
)

IDLE_S = 30.0
STUCK_S = 30.0  # after so long, a job that waits although workers run gets another worker
MAX_FRUITLESS = 3  # workers in a row that end without having taken anything
REQUEUED = frozenset({"PENDING", "REQUEUE_HOLD", "SPECIAL_EXIT"})  # Slurm has restarted the job or will: its tickets are free


@dataclass
class Pool:
    """The jobs with the same needs, and the number of workers that serve them.

    Attributes:
        tickets: the folder of their tickets.
        size: maximum number of workers, and of jobs in each.
        name: the rules whose jobs are in it, for squeue.
        jobs: its jobs that have no verdict yet, by uid.
        requests: what each of them requests.
        again: how often each was started again through no fault of its own.
        live: number of workers that are submitted or about to be.
        excluded: nodes that failed under a worker.
        fruitless: number of consecutive workers that ended without having taken any job, though some waited.
        grown_at: when it last got a worker.
    """

    tickets: TicketFolder
    size: PoolSize
    name: str
    jobs: dict[str, PooledJob] = field(default_factory=dict)
    requests: dict[str, Request] = field(default_factory=dict)
    again: dict[str, int] = field(default_factory=dict)
    live: int = 0
    excluded: set[str] = field(default_factory=set)
    fruitless: int = 0
    grown_at: float = 0.0

    def has_waiting_jobs(self) -> bool:
        """Return True if no worker has taken some of its jobs yet."""
        return any(job.waits for job in self.jobs.values())

    def missing_workers(self) -> int:
        """Return how many workers to start so that there is a place for every job."""
        if not self.has_waiting_jobs():
            return 0
        return max(0, min(self.size.workers, ceil(len(self.jobs) / self.size.slots)) - self.live)

    def is_stuck(self) -> bool:
        """Return True if a job has waited for long, and there may be another worker.

        The workers may be unable to take it: too little memory is free, their time is nearly up, or they are leaving.
        """
        since = min((job.waits_since for job in self.jobs.values() if job.waits), default=None)
        waited_s = 0.0 if since is None else time.monotonic() - max(since, self.grown_at)
        return waited_s >= STUCK_S and self.live < self.size.workers


class Pools:
    """All pools of a run. Thread-safe: jobs come from the main thread, states from the wait thread."""

    def __init__(self, folder: Path, done_dir: Path, *, cluster: str, preload: Iterable[str]) -> None:
        """Set up; nothing is written before the first job.

        Args:
            folder: the executor's folder.
            done_dir: folder of the done markers.
            cluster: "slurm", "local", or "allocation".
            preload: modules that workers load beforehand.
        """
        self._folder, self._done_dir, self._cluster = folder, done_dir, cluster
        self._preload = tuple(preload)
        self._pools: dict[object, Pool] = {}
        self._adopted: dict[str, PooledJob] = {}
        self._seen_working: set[str] = set()  # job ids of workers
        self._held: dict[str, int] = {}  # by worker: how many jobs it held when it was found dead
        self._numbers = 0
        self._is_room_wanted = False
        self._lock = threading.RLock()

    # --- jobs

    def new_job(self, name: str, request: Request, size: PoolSize) -> PooledJob:
        """Create a job's folder and, if there is no pool for its needs, the pool; `put` queues the job.

        Raises:
            WorkflowError: if the job's folder cannot be created.
            OSError: if the pool cannot be created.
        """
        with self._lock:
            pool = self._pool(request, size, name)
            job_dir = new_job_folder(self._folder, name)
            uid = done_marker(job_dir)
            pool.requests[uid] = request
            return PooledJob(self._cluster, job_dir, name, uid, pool.tickets, mem_mb=request.mem_mb)

    def _pool(self, request: Request, size: PoolSize, name: str) -> Pool:
        needs, rule = shared_needs(request, size), name.partition(".")[0]
        pool = self._pools.get(needs)
        if pool is None:
            tickets = TicketFolder(self._folder / POOLS / uuid.uuid4().hex[:12])
            tickets.create()
            if self._is_room_wanted:
                tickets.want_room(True)
            pool = self._pools[needs] = Pool(tickets, size, f"pool.{rule}")
        if size.workers > pool.size.workers:
            pool.size = size
        if rule not in pool.name.partition(".")[2].split("+") and len(pool.name) < 80:
            pool.name += f"+{rule}"
        return pool

    def put(self, job: PooledJob, command: str) -> None:
        """Queue a job.

        Raises:
            OSError: if its ticket cannot be written.
        """
        with self._lock:
            pool = self._pool_of(job)
            assert pool is not None
            request = pool.requests[job.uid]
            arguments, cwd = snakemake_call(command)
            ticket = Ticket(
                uid=job.uid,
                name=job.name,
                command=command,
                arguments=arguments,
                cwd=cwd,
                job_dir=str(job.folder),
                done_marker=str(self._done_dir / job.uid),
                runtime_s=60.0 * request.runtime_min,
                cpus=request.cpus_per_task,
                mem_mb=request.mem_mb or 0,
                gpus=request.gpus_per_node,
                max_requeues=request.max_requeues,
            )
            self._numbers += 1
            pool.tickets.put(ticket, self._numbers)
            pool.jobs[job.uid] = job

    def adopt(self, job: PooledJob) -> None:
        """Follow a job that a worker of an earlier main process runs."""
        with self._lock:
            self._adopted[job.uid] = job

    def forget(self, job: PooledJob) -> None:
        """Drop a job that has its verdict."""
        with self._lock:
            self._adopted.pop(job.uid, None)
            pool = self._pool_of(job)
            if pool is not None:
                pool.jobs.pop(job.uid, None)
                pool.requests.pop(job.uid, None)

    def _pool_of(self, job: PooledJob) -> Pool | None:
        return next((pool for pool in self._pools.values() if pool.tickets is job.tickets), None)

    def _folders(self) -> dict[Path, tuple[TicketFolder, list[PooledJob]]]:
        found = {pool.tickets.folder: (pool.tickets, list(pool.jobs.values())) for pool in self._pools.values() if pool.jobs}
        for job in self._adopted.values():
            found.setdefault(job.tickets.folder, (job.tickets, []))[1].append(job)
        return found

    # --- states

    def workers_with_claims(self) -> dict[TicketFolder, list[str]]:
        """Return the workers that hold tickets; called before Slurm is queried, as it may restart one right after its answer."""
        with self._lock:
            return {tickets: sorted(set(tickets.claimed().values())) for tickets, _ in self._folders().values()}

    def update(
        self, before: Mapping[TicketFolder, list[str]], answers: Mapping[str, states.State] | None, handles: Mapping[str, Any]
    ) -> None:
        """Record where each ticket is, and queue the tickets of workers again that Slurm has put back into its queue.

        Args:
            before: the workers that held tickets before the query.
            answers: Slurm's states by job id; None: not queried, or no answer.
            handles: submitit's objects of local workers, by job id.
        """
        with self._lock:
            for tickets, workers in before.items():
                tickets.give_back_all([w for w in workers if _is_requeued((answers or {}).get(job_id_of(w)))])
            for tickets, jobs in self._folders().values():
                waiting, claimed = tickets.waiting(), tickets.claimed()
                self._seen_working.update(map(job_id_of, claimed.values()))
                for job in jobs:
                    worker = claimed.get(job.uid)
                    handle = handles.get(job_id_of(worker)) if worker else None
                    job.see(waits=job.uid in waiting and worker is None, worker=worker, handle=handle)

    def take_strays(self) -> list[PooledJob]:
        """Withdraw and return the adopted jobs that are back in a queue of an earlier main process, which may have no workers."""
        with self._lock:
            strays = [job for job in self._adopted.values() if job.waits and job.tickets.withdraw(job.uid)]
            for job in strays:
                del self._adopted[job.uid]
            return strays

    def again(self, job: PooledJob, state: states.State | None) -> str | None:
        """Queue a job again if it is not to blame for its worker's end; return why, or None if it has failed.

        Raises:
            OSError: if the ticket cannot be written.
        """
        with self._lock:
            if job.worker is None or job.is_gone or read_result(job.folder) is not None:
                return None
            pool = self._pool_of(job)
            others = self._adopted if pool is None else pool.jobs
            beside = [other for other in others.values() if other.worker == job.worker and read_result(other.folder) is None]
            held = self._held.setdefault(job.worker, len(beside))
            verdict = judge(state, held=held, again=0 if pool is None else pool.again.get(job.uid, 0))
            if verdict is Verdict.FAILED:
                return None
            if pool is not None and state is not None:
                pool.excluded.update(states.failed_nodes(state))
            why = f"{self._cluster} job {job.job_id}, which ran it, ended ({state.name if state else 'without a result'})"
            if verdict is Verdict.ALONE:
                why += f", and {held} jobs with it; it runs again by itself"
            return why if self._queue_again(pool, job, alone=verdict is Verdict.ALONE) else None

    def _queue_again(self, pool: Pool | None, job: PooledJob, *, alone: bool) -> bool:
        """Put back the ticket that a dead worker held; one of an earlier main process is only withdrawn, to be queued anew."""
        if pool is None:
            self._adopted.pop(job.uid, None)
            return job.tickets.revoke(job.uid)
        path = next((pool.tickets.folder / CLAIMS / str(job.worker)).glob(f"[0-9]*-{job.uid}.json"), None)
        ticket = None if path is None else read_ticket(path)
        if path is None or ticket is None or not pool.tickets.give_back(Claim(ticket, path), alone=ticket.alone or alone):
            return False
        pool.again[job.uid] = pool.again.get(job.uid, 0) + 1
        job.see(waits=True, worker=None)
        return True

    def is_own(self, job: PooledJob) -> bool:
        """Return True if a job is in a pool of this run, and not in one that an earlier main process left."""
        with self._lock:
            return self._pool_of(job) is not None

    # --- workers

    def to_start(self, is_awaited: Callable[[Pool], bool]) -> list[tuple[Pool, Request, int]]:
        """Return the pools that need more workers, the resources of each worker, and how many; they count as live from now on.

        Args:
            is_awaited: returns True if a worker of a pool has not started yet, which may take what the others cannot.
        """
        with self._lock:
            found = []
            for pool in self._pools.values():
                missing = pool.missing_workers() or int(pool.is_stuck() and not is_awaited(pool))
                if missing:
                    pool.live += missing
                    pool.grown_at = time.monotonic()
                    found.append((pool, self._offered(pool), missing))
            return found

    def _offered(self, pool: Pool) -> Request:
        """Return the resources that a worker must provide for the current jobs of a pool."""
        return capacity(pool.requests.values(), pool.size.slots, preloads=bool(self._preload))

    def plan(self, pool: Pool, offered: Request, runtime_min: int, owner: ProcessId | None) -> Plan:
        """Create the folder of a worker.

        Raises:
            WorkflowError: if it cannot be created.
        """
        job_dir = new_job_folder(self._folder, pool.name)
        terms = Terms(
            slots=pool.size.slots,
            offered=offered,
            limit_s=60.0 * runtime_min - MARGIN_S,
            idle_s=IDLE_S,
            preload=self._preload,
        )
        marker = str(self._done_dir / done_marker(job_dir))
        task = WorkerTask(str(pool.tickets.folder), str(job_dir), terms, done_marker=marker, owner=owner)
        return Plan(pool.name, job_dir, task)

    def wanted(self, pool: Pool) -> Request | None:
        """Return the resources that a worker that has not started yet must provide; None if it would find nothing to do."""
        with self._lock:
            return self._offered(pool) if pool.has_waiting_jobs() else None

    def worker_ended(
        self, pool: Pool, job_id: str, offered: Request | None, *, jobs: int = 0, state: states.State | None = None
    ) -> bool:
        """Record the end of a worker; return True if the waiting jobs must fail, because several workers in a row took none.

        Args:
            pool: the pool that it served.
            job_id: its job.
            offered: the resources that it provided; None: it never started.
            jobs: how many jobs it has run.
            state: its final state in Slurm; None: unknown, or on this machine.
        """
        with self._lock:
            pool.live -= 1
            if jobs > 0 or job_id in self._seen_working or not pool.has_waiting_jobs():
                pool.fruitless = 0
            elif (state is None or state.name not in states.LOST_PLACE) and not self._is_outdated(pool, offered):
                pool.fruitless += 1
            return pool.fruitless >= MAX_FRUITLESS

    def _is_outdated(self, pool: Pool, offered: Request | None) -> bool:
        """Return True if a worker provided less than the jobs that wait now require: it was submitted for smaller ones."""
        return offered is not None and not covers(offered, self._offered(pool))

    def want_room(self, is_wanted: bool) -> None:
        """Ask idle workers to leave, or to stay."""
        with self._lock:
            for pool in self._pools.values() if is_wanted != self._is_room_wanted else ():
                pool.tickets.want_room(is_wanted)
            self._is_room_wanted = is_wanted

    def take_out(self, pool: Pool) -> list[PooledJob]:
        """Withdraw all waiting jobs of a pool and return them."""
        with self._lock:
            pool.fruitless = 0
            return [job for job in pool.jobs.values() if pool.tickets.withdraw(job.uid)]

    # --- the end

    def close(self) -> None:
        """Tell the workers that no more jobs will come."""
        with self._lock, contextlib.suppress(OSError):
            for pool in self._pools.values():
                pool.tickets.close()

    def abolish(self) -> None:
        """Remove all queues, before the workers are cancelled; have workers of an earlier main process stop what was adopted."""
        with self._lock:
            for pool in self._pools.values():
                pool.tickets.abolish()
            for job in self._adopted.values():
                job.tickets.abolish()
                job.cancel()


def _is_requeued(state: states.State | None) -> bool:
    return state is not None and state.name in REQUEUED
