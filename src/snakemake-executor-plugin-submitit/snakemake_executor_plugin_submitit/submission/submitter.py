"""Send ready jobs to Slurm from a separate thread; jobs with equal requests go out together, as one array."""

import queue
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from snakemake_executor_plugin_submitit.submission.commands import BusyError, LimitError

PAUSES_S = (2.0, 4.0, 8.0, 15.0, 30.0, 60.0)

Job = TypeVar("Job")


class Submitter(Generic[Job]):
    """Accept jobs without blocking and send them; while Slurm is busy, retry with all jobs that became ready meanwhile.

    Attributes:
        max_jobs: maximum number of jobs to send together; `send` may lower it, also for jobs that already wait.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Job]], None],
        kind: Callable[[Job], object],
        *,
        max_jobs: int,
        warn: Callable[[str], None],
    ) -> None:
        """Start the thread.

        Args:
            send: submits jobs of one kind; raises BusyError, and nothing else, to be called again later.
            kind: returns a key; jobs with equal keys may be sent together.
            max_jobs: maximum number of jobs to send together.
            warn: logs a warning.
        """
        self._send, self._kind, self.max_jobs, self._warn = send, kind, max_jobs, warn
        self._queue: queue.SimpleQueue[Sequence[Job]] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def add(self, jobs: Sequence[Job]) -> None:
        """Queue jobs for sending."""
        self._queue.put(jobs)

    def stop(self, timeout_s: float) -> bool:
        """Send nothing more; return True if the call under way has ended within the time."""
        self._stopped.set()
        self._queue.put(())
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        # Ctrl-C reaches every process of the terminal, but sbatch must print the id of a job that it has submitted
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        waiting: list[Job] = []
        tries = 0
        while not self._stopped.is_set():
            waiting += self._take(block=not waiting)
            busy = None
            for group in self._groups(waiting):
                if self._stopped.is_set():
                    return
                sent, problem = self._send_some(group)
                waiting = [job for job in waiting if id(job) not in sent]
                tries = 0 if sent else tries
                busy = problem or busy
                if problem is not None and not isinstance(problem, LimitError):  # jobs of other kinds may be within their limit
                    break
            if busy is not None:
                pause_s = PAUSES_S[min(tries, len(PAUSES_S) - 1)]
                tries += 1
                self._warn(f"Slurm takes no jobs now ({' '.join(str(busy).split())}); trying again in {pause_s:.0f} s")
                self._stopped.wait(pause_s)

    def _send_some(self, group: list[Job]) -> tuple[set[int], BusyError | None]:
        """Send jobs of one kind: all, or, if these exceed a limit, a half, a quarter, …; return the ids of the sent objects."""
        size = len(group)
        while True:
            try:
                self._send(group[:size])
            except LimitError as err:
                if size == 1 or self._stopped.is_set():
                    return set(), err
                size = (size + 1) // 2
                continue
            except BusyError as err:
                return set(), err
            sent = {id(job) for job in group[:size]}
            return sent, None if size == len(group) else LimitError("a limit on submitted jobs is reached")

    def _take(self, block: bool) -> list[Job]:
        jobs: list[Job] = list(self._queue.get()) if block else []
        while not self._queue.empty():
            jobs += self._queue.get()
        return jobs

    def _groups(self, jobs: Iterable[Job]) -> Iterator[list[Job]]:
        kinds: dict[object, list[Job]] = {}
        for job in jobs:
            kinds.setdefault(self._kind(job), []).append(job)
        for alike in kinds.values():
            while alike:
                group = alike[: self.max_jobs]
                del alike[: len(group)]
                yield group
