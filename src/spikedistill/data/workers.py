"""Work shared out among processes that fork from this one: each takes the next items when it is done with its last ones."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import mmap
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import ForkContext
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from spikedistill.errors import DataError
from spikedistill.memory import keep_freed_memory

log = logging.getLogger(__name__)

T = TypeVar("T")
Turns = Iterator[range]
"""Ranges of items for one process to do."""

MOST_PER_TURN = 4
_TURNS_EACH = 4  # at least, so that processes end together
_PROGRESS_S = 10.0
_DIE_WITH_PARENT = 1  # Linux: prctl(PR_SET_PDEATHSIG, …)
_KEPT_BYTES = 32 << 20


def shared_zeros(length: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """A vector of zeros that processes which fork from this one write to in common."""
    return np.frombuffer(mmap.mmap(-1, max(1, length * np.dtype(dtype).itemsize)), dtype=dtype, count=length)


def share_out(work: Callable[[Turns], T], count: int, *, num_workers: int, done: str) -> list[T]:
    """Do `count` items of work in processes of their own.

    Args:
        work: called once in each process, with an iterator over the ranges of items that it is to do. It sees everything that
            this process has as it is now, without a copy; what it returns is sent back.
        count: number of items.
        num_workers: processes to use.
        done: what an item that is done is, to tell the progress: "files integrated".

    Returns:
        What `work` returned in each process.

    Raises:
        DataError: if a process was killed.
    """
    context = multiprocessing.get_context("fork")
    num_workers = max(1, min(num_workers, count))
    items = _Items(context, count, max(1, min(MOST_PER_TURN, count // (_TURNS_EACH * num_workers))))
    pool = ProcessPoolExecutor(num_workers, context, _start, (os.getpid(), work, items))
    try:
        running = [pool.submit(_work) for _ in range(num_workers)]
        while wait(running, _PROGRESS_S, FIRST_EXCEPTION).not_done:
            if any(future.done() and future.exception() for future in running):
                items.stop()
                break
            log.info("%d of %d %s", items.taken, count, done)
        return [future.result() for future in running]
    except BrokenProcessPool as err:
        raise DataError("a process that prepares data was killed: out of memory? Ask for more, or fewer CPUs") from err
    finally:
        items.stop()
        pool.shutdown(wait=True, cancel_futures=True)


class _Items:
    """Numbers below `count`, handed out in ranges to processes that share this object."""

    def __init__(self, context: ForkContext, count: int, per_turn: int) -> None:
        self._count, self._per_turn = count, per_turn
        self._next, self._stopped, self._lock = context.RawValue("q", 0), context.RawValue("b", 0), context.Lock()

    def __iter__(self) -> Turns:
        while not self._stopped.value:
            with self._lock:
                start = self._next.value
                self._next.value = start + self._per_turn
            if start >= self._count:
                return
            yield range(start, min(start + self._per_turn, self._count))

    @property
    def taken(self) -> int:
        """How many were handed out."""
        return min(self._next.value, self._count)

    def stop(self) -> None:
        """Hand out no more. No lock is needed, so that a process that was killed while it held it stops nobody."""
        self._stopped.value = 1


_this_process: list[Callable[[], Any]] = []
"""What a process has to do, set when it starts: handed over by the fork, which needs no pickling."""


def _start(parent: int, work: Callable[[Turns], Any], items: _Items) -> None:
    """Prepare a process. It ends when its parent is killed, so that nobody waits here forever for work."""
    keep_freed_memory(_KEPT_BYTES)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    _this_process.append(lambda: work(iter(items)))


def _work() -> Any:
    return _this_process[-1]()
