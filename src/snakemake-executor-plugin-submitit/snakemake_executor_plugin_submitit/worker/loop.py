"""A worker: the process that serves a pool.

It claims tickets, forks a process for each, as many at a time as its resources allow, and writes their results, which look like
those of single jobs. It never starts a job that its own time limit would cut off, and exits when that is true of all waiting
jobs, when there have been none for a while, or when code that it has loaded has changed.
"""

import contextlib
import os
import select
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from snakemake_executor_plugin_submitit.job import ranks
from snakemake_executor_plugin_submitit.job.task import HOLD_S, LOCAL_TERMINATE_S, SIGNAL_SPREAD_S, are_gpus_given
from snakemake_executor_plugin_submitit.processes import ProcessId
from snakemake_executor_plugin_submitit.request.local_slots import Share, SlotPool
from snakemake_executor_plugin_submitit.request.pooling import PRELOADED_MB
from snakemake_executor_plugin_submitit.request.resources import Request, time_to_save_s
from snakemake_executor_plugin_submitit.worker import child
from snakemake_executor_plugin_submitit.worker.memory import processes_of, proportional_mb
from snakemake_executor_plugin_submitit.worker.running import (
    STOPPED_BY_ORDER,
    STOPPED_FOR_MEMORY,
    STOPPED_FOR_TIME,
    RunningJob,
    write_result,
)
from snakemake_executor_plugin_submitit.worker.tickets import Claim, Ticket, TicketFolder, job_id_of
from snakemake_executor_plugin_submitit.worker.warm import WarmModules

FIRST_PAUSE_S, LONGEST_PAUSE_S, PAUSE_GROWTH = 0.05, 1.0, 1.3
NO_ROOM_S = 0.5  # how long it stays idle while other jobs of this machine wait for its resources
UNFIT_S = 2.0  # how long it stays idle while tickets wait, but none fits
LEAST_MB = 100  # limits below this are not enforced: Snakemake itself uses some tens of MB in every job
WATCH_S = 1.0  # between two looks at the memory and the claims of running jobs
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGCHLD, signal.SIGCONT)


@dataclass(frozen=True)
class Terms:
    """How a worker works.

    Attributes:
        slots: maximum number of jobs at a time.
        offered: the resources that its jobs share, without what the worker itself takes.
        limit_s: time from its start until it must have ended; Slurm's limit is a little later.
        idle_s: how long it waits for tickets.
        preload: modules to load beforehand.
    """

    slots: int
    offered: Request
    limit_s: float
    idle_s: float
    preload: tuple[str, ...] = ()


class Worker:
    """The state of a worker's process."""

    def __init__(
        self, pool: Path, terms: Terms, name: str, *, umask: int, on_slurm: bool, owner: ProcessId | None = None
    ) -> None:
        """Set up; nothing runs yet.

        Args:
            pool: the folder of the pool's tickets.
            terms: how to work.
            name: a name that no other worker has.
            umask: that of the jobs' commands.
            on_slurm: False on a machine without Slurm.
            owner: process of this machine whose end also ends the worker; None: none.
        """
        self._terms, self._name, self._umask, self._on_slurm, self._owner = terms, name, umask, on_slurm, owner
        self._tickets = TicketFolder(pool)
        self._warm = WarmModules()
        self._started = time.monotonic()
        self._jobs: list[RunningJob] = []
        self._shares = SlotPool(terms.offered.cpus_per_task, terms.offered.gpus_per_node, terms.offered.mem_mb)
        self._devices = [device for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]
        self._asked_to_stop = False  # by preemption or scancel
        self._leaving = False  # takes no more jobs
        self._is_blocked = False  # a ticket that has to run alone is next, and others still run
        self._is_broken = False  # a result cannot be written
        self._unresolved = 0  # jobs ended by a signal from outside: Slurm's final state says what that means
        self._ended = 0
        self._watched_at = 0.0
        self._alarm_r, self._alarm_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def enter(self, log: str, folder: str) -> None:
        """Check the pool, put back what this job held before Slurm restarted it, and load Snakemake.

        Args:
            log: the worker's own log.
            folder: the worker's own folder.

        Raises:
            OSError: if the pool is not private, or cannot be written to.
        """
        self._listen()
        self._tickets.check()
        earlier = [worker for worker in self._tickets.workers() if job_id_of(worker) == job_id_of(self._name)]
        if given_back := self._tickets.give_back_all(earlier):
            _say(f"restarted; {given_back} jobs are queued again")
        self._tickets.enter(self._name, {"host": ranks.host(), "log": log, "folder": folder})
        cpus = max(1, self._terms.offered.cpus_per_task // self._terms.slots)
        for line in self._warm.load(self._terms.preload, cpus=cpus):
            _say(line)

    def _listen(self) -> None:
        signal.set_wakeup_fd(self._alarm_w, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, self._noted)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGUSR2, self._limit_is_near)

    def _noted(self, number: int, frame: FrameType | None) -> None:
        """Only wake up."""

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Pass SIGTERM on; Slurm sets the grace time and kills."""
        self._asked_to_stop = self._leaving = True
        for job in self._jobs:
            job.was_signalled = True
            job.signal(signal.SIGTERM)
        if not self._on_slurm:
            signal.signal(signal.SIGALRM, lambda *_: self._kill_all())
            signal.setitimer(signal.ITIMER_REAL, LOCAL_TERMINATE_S)

    def _limit_is_near(self, number: int, frame: FrameType | None) -> None:
        """Exit in time; jobs that still run count as over their time limit, and start again elsewhere."""
        self._leaving = True
        for job in self._jobs:
            job.stop(STOPPED_FOR_TIME, self._time_to_save_s(job))

    def _time_to_save_s(self, job: RunningJob) -> float:
        return time_to_save_s(job.ticket.runtime_s / 60) if self._on_slurm else ranks.TERMINATE_S

    def work(self) -> int:
        """Run what can be claimed until there is a reason to leave; return the number of jobs that have ended."""
        idle_since, pause_s = time.monotonic(), FIRST_PAUSE_S
        while True:
            self._reap()
            self._watch()
            self._end_with_owner()
            if not self._leaving and self._take():
                idle_since, pause_s = time.monotonic(), FIRST_PAUSE_S
                continue
            if self._jobs:
                idle_since = time.monotonic()
            elif self._leaving or self._has_to_leave(time.monotonic() - idle_since):
                break
            self._sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, PAUSE_GROWTH * pause_s)
        if self._unresolved:
            self._hold()
        if self._is_broken:
            raise SystemExit(1)
        return self._ended

    def _has_to_leave(self, idle_s: float) -> bool:
        """Return True if an idle worker is not needed: nothing has waited for long, or only jobs that it cannot take."""
        if idle_s >= (NO_ROOM_S if self._tickets.room_is_wanted() else self._terms.idle_s):
            return True
        return idle_s >= UNFIT_S if self._tickets.waiting() else self._tickets.is_closed()

    def _sleep(self, seconds: float) -> None:
        """Wait for a signal, such as SIGCHLD, or for some time."""
        with contextlib.suppress(InterruptedError):
            if select.select([self._alarm_r], [], [], seconds)[0]:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._alarm_r, 4096)

    # --- starting jobs

    def _take(self) -> bool:
        """Start the oldest ticket for which there is room and time; return False if there is none."""
        if len(self._jobs) >= self._terms.slots or any(job.ticket.alone for job in self._jobs):
            return False
        if self._warm.are_stale():
            self._leaving = True
            _say("a loaded file was changed; this worker takes no more jobs")
            return False
        self._is_blocked = False
        claim = self._tickets.claim(self._name, self._fits)
        if claim is None:
            return False
        self._start(claim)
        return True

    def _fits(self, ticket: Ticket) -> bool:
        self._is_blocked = self._is_blocked or (ticket.alone and bool(self._jobs))
        if self._is_blocked or time.monotonic() - self._started + ticket.runtime_s > self._terms.limit_s:
            return False
        share = self._shares.take(_needs(ticket))
        if share is None:
            return False
        self._shares.give_back(share)
        return share.cpus >= ticket.cpus  # a share may be smaller, and another worker large enough

    def _start(self, claim: Claim) -> None:
        share = self._shares.take(_needs(claim.ticket))
        assert share is not None
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # a signal finds the job in the list, or comes before the fork
        try:
            variables = self._variables(claim.ticket, share)
            pid = child.fork(claim.ticket, variables, self._warm, umask=self._umask, worker=self._name)
        except OSError as err:
            self._shares.give_back(share)
            self._finish(claim, {"status": 1, "host": ranks.host(), "reason": f"it cannot be started: {err}"})
        else:
            self._jobs.append(RunningJob(claim, share, pid))
            _say(f"{claim.ticket.name}: started, process {pid}")
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        if self._asked_to_stop:  # the signal came between the claim and the fork
            self._stop(signal.SIGTERM, None)

    def _variables(self, ticket: Ticket, share: Share) -> dict[str, str]:
        """Return what the job's environment has in place of the worker's."""
        devices = [self._devices[index] for index in share.gpus if index < len(self._devices)]
        if not devices and self._terms.slots == 1 and self._on_slurm and are_gpus_given():
            devices = self._devices  # a share of a GPU, which no option counts
        variables = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "CUDA_VISIBLE_DEVICES": ",".join(devices),
        }
        variables["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(ticket.cpus))
        if self._on_slurm:
            variables |= dict.fromkeys(("SRUN_CPUS_PER_TASK", "SLURM_CPUS_PER_TASK"), str(ticket.cpus))
        return variables

    # --- jobs that run

    def _watch(self) -> None:
        """Stop the jobs that exceed their time or memory, or whose claim was withdrawn."""
        for job in self._jobs:
            if job.is_over_time():
                job.stop(STOPPED_FOR_TIME, self._time_to_save_s(job))
        if not self._jobs or time.monotonic() - self._watched_at < WATCH_S:
            return
        self._watched_at = time.monotonic()
        for job in self._jobs:
            if not job.claim.is_held():
                job.stop(STOPPED_BY_ORDER)
        if self._terms.slots > 1:
            self._watch_memory()

    def _watch_memory(self) -> None:
        resident = processes_of({job.pid for job in self._jobs if job.ticket.mem_mb})
        preloaded_mb = PRELOADED_MB / len(self._jobs) if self._terms.preload else 0.0  # their shares of what the worker requests
        for job in self._jobs:
            processes, limit = resident.get(job.pid, {}), max(job.ticket.mem_mb, LEAST_MB) + preloaded_mb
            if sum(processes.values()) > limit and (used := proportional_mb(processes)) > limit:
                job.peak_mb = max(job.peak_mb, used)
                job.stop(STOPPED_FOR_MEMORY)

    def _reap(self) -> None:
        for job in list(self._jobs):
            result = job.reap()
            if result is not None:
                self._jobs.remove(job)
                self._shares.give_back(job.share)
                self._settle(job, result)

    def _settle(self, job: RunningJob, result: dict[str, Any]) -> None:
        """Decide what the end of a job's process means."""
        _say(
            f"{job.ticket.name}: ended, status {result['status']}" + (f", stopped: {job.stopped_for}" if job.stopped_for else "")
        )
        if job.stopped_for == STOPPED_BY_ORDER:
            return
        if result["status"] and not job.was_signalled and job.stopped_for is None and self._on_slurm:
            self._await_signal()
            job.was_signalled = self._asked_to_stop
        if result["status"] == 0 or (job.stopped_for is None and not job.was_signalled):
            self._finish(job.claim, result)
        elif job.stopped_for == STOPPED_FOR_MEMORY:
            reason = f"{job.peak_mb:.0f} MB were used"
            self._finish(job.claim, result | {"status": 1, "state": "OUT_OF_MEMORY", "reason": reason})
        elif job.stopped_for == STOPPED_FOR_TIME:
            self._time_is_up(job, result)
        else:
            self._unresolved += 1

    def _await_signal(self) -> None:
        """Wait a little after a failure: Slurm signals the processes of a job one after another."""
        deadline = time.monotonic() + SIGNAL_SPREAD_S
        while not self._asked_to_stop and (left := deadline - time.monotonic()) > 0:
            self._sleep(left)

    def _time_is_up(self, job: RunningJob, result: dict[str, Any]) -> None:
        timeouts = job.ticket.timeouts + 1
        if timeouts <= job.ticket.max_requeues:
            try:
                self._tickets.give_back(job.claim, timeouts=timeouts)
            except OSError as err:
                self._break(job.claim, err)
            return
        reason = f"the time limit was reached {timeouts} times"
        self._finish(job.claim, result | {"status": 1, "state": "TIMEOUT", "reason": reason})

    def _finish(self, claim: Claim, result: dict[str, Any]) -> None:
        """Write the result, then give up the claim."""
        try:
            write_result(claim.ticket.job_dir, claim.ticket.done_marker, result | {"worker": self._name})
            claim.release()
            self._ended += 1
        except OSError as err:
            self._break(claim, err)

    def _break(self, claim: Claim, err: OSError) -> None:
        """Leave with an error as soon as the other jobs have ended: only Slurm's state can tell what became of this one."""
        _say(f"{claim.ticket.name}: its result cannot be written: {err}")
        self._leaving = self._is_broken = True

    # --- the end

    def _end_with_owner(self) -> None:
        if self._owner is not None and not self._owner.is_alive():
            self._kill_all()
            os._exit(1)

    def _kill_all(self) -> None:
        for job in self._jobs:
            job.signal(signal.SIGKILL)

    def _hold(self) -> None:
        """Wait for Slurm to stop this job, as single jobs do: its own end would hide whether it was preempted or cancelled."""
        if self._on_slurm:
            time.sleep(HOLD_S)
        raise SystemExit(1)


def _needs(ticket: Ticket) -> Request:
    return Request(cpus_per_task=ticket.cpus, gpus_per_node=ticket.gpus, mem_mb=ticket.mem_mb or None)


def _say(text: str) -> None:
    """Write to the worker's log, unless its disk is full: the jobs do not depend on it."""
    with contextlib.suppress(OSError):
        print(text, flush=True)
