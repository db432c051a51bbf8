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
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import ForkContext
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from spikedistill.data.malloc import keep_freed_memory
from spikedistill.errors import DataError

log = logging.getLogger(__name__)

T = TypeVar("T")

_MOST_AT_ONCE = 4
_TURNS_EACH = 4  # at least, so that processes end together
_PROGRESS_S = 10.0
_DIE_WITH_PARENT = 1  # Linux: prctl(PR_SET_PDEATHSIG, …)
_KEPT_BYTES = 32 << 20


def shared_zeros(length: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """A vector of zeros that processes which fork from this one write to in common."""
    return np.frombuffer(mmap.mmap(-1, max(1, length * np.dtype(dtype).itemsize)), dtype=dtype, count=length)


def share_out(work: Callable[[Iterator[int]], T], count: int, *, num_workers: int, done: str) -> list[T]:
    """Do `count` items of work in processes of their own.

    Args:
        work: called `num_workers` times, with an iterator over the numbers of the items that are its to do, perhaps none. It
            sees everything that this process has, nothing is pickled; what it returns is sent back.
        count: number of items.
        num_workers: processes to use.
        done: what an item that is done is, to tell the progress: "files integrated".

    Returns:
        What each call of `work` returned.

    Raises:
        DataError: if a process was killed.
    """
    num_workers = max(1, min(num_workers, count))
    context = multiprocessing.get_context("fork")
    items = _Items(context, count, max(1, min(_MOST_AT_ONCE, count // (_TURNS_EACH * num_workers))))
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(num_workers, context, _start, (os.getpid(), work, items))
    try:
        running = [pool.submit(_work) for _ in range(num_workers)]
        while wait(running, _PROGRESS_S).not_done:
            log.info("%d of %d %s", items.done, count, done)
        return [future.result() for future in running]
    except BrokenProcessPool as err:
        raise DataError("a process that prepares data was killed: out of memory? Ask for more, or fewer CPUs") from err
    finally:
        items.stop()
        pool.shutdown(wait=True, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:  # one could not be started: nobody ends those before it
            process.terminate()


class _Items:
    """Numbers below `count`, handed out some at a time to processes that share this object."""

    def __init__(self, context: ForkContext, count: int, at_once: int) -> None:
        self._count, self._at_once, self._lock = count, at_once, context.Lock()
        self._state = shared_zeros(3, np.int64)  # next item, items done, whether to stop

    def __iter__(self) -> Iterator[int]:
        done = 0
        while True:
            with self._lock:
                self._state[1] += done
                start = int(self._state[0])
                self._state[0] = stop = min(start + self._at_once, self._count)
            if start == stop:
                return
            for item in range(start, stop):
                if self._state[2]:
                    return
                yield item
            done = stop - start

    @property
    def done(self) -> int:
        """How many are done, in steps."""
        return int(self._state[1])

    def stop(self) -> None:
        """Hand out no more. Without the lock, which a process that was killed may hold for ever."""
        self._state[2] = 1


_this_process: list[tuple[Callable[[Iterator[int]], Any], _Items]] = []
"""What a process has to do, set when it starts: handed over by the fork, which needs no pickling."""


def _start(parent: int, work: Callable[[Iterator[int]], Any], items: _Items) -> None:
    """Prepare a process. It ends when its parent is killed, so that nobody waits here forever for work."""
    keep_freed_memory(_KEPT_BYTES)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which the pool ends those that wait for a killed one
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    _this_process.append((work, items))


def _work() -> Any:
    work, items = _this_process[-1]
    try:
        return work(iter(items))
    except BaseException:
        items.stop()
        raise
