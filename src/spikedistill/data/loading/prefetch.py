"""Prefetching: one thread makes items ahead of their consumer."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

AHEAD = 2
"""Number of items made before they are asked for."""


@dataclass(frozen=True)
class _Made(Generic[T]):
    item: T


@dataclass(frozen=True)
class _End:
    error: BaseException | None


def prefetched(make: Callable[[int], T], steps: Iterable[int], begin: Callable[[], None] | None = None) -> Generator[T]:
    """Yield `make(step)` for each step, made up to AHEAD steps ahead by one thread, which calls `begin` first.

    At most AHEAD + 1 items exist at a time, including the consumer's. An error in `make` is raised here, in its turn. The thread
    ends with the iterator, whether that was exhausted, closed, or dropped because of an error in the consumer.
    """
    made: queue.SimpleQueue[_Made[T] | _End] = queue.SimpleQueue()
    room = threading.Semaphore(AHEAD)
    stopped = threading.Event()

    def work() -> None:
        try:
            if begin is not None:
                begin()
            for step in steps:
                room.acquire()
                if stopped.is_set():
                    return
                made.put(_Made(make(step)))
            made.put(_End(None))
        except BaseException as err:
            made.put(_End(err))

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while isinstance(result := made.get(), _Made):
            room.release()
            yield result.item
        if result.error is not None:
            raise result.error
    finally:
        stopped.set()
        room.release()
        thread.join()
