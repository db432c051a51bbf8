"""Work shared out to processes: everything is done once, and a process that fails or dies stops the others."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from spikedistill.data.prepare import workers
from spikedistill.data.prepare.workers import run_workers, shared_zeros
from spikedistill.errors import DataError


@pytest.mark.parametrize(("count", "num_workers"), [(1, 4), (7, 2), (1000, 3), (12, 1)])
def test_every_item_is_done_once(count, num_workers):
    times = shared_zeros(count, np.int64)

    def work(items):
        done = 0
        for item in items:
            times[item] += 1
            done += 1
        return done, os.getpid()

    found = run_workers(work, count, num_workers=num_workers)
    assert sum(done for done, _ in found) == count
    assert len({pid for _, pid in found}) <= num_workers
    assert times.tolist() == [1] * count


def test_who_watches_is_told_how_many_items_are_done(monkeypatch):
    monkeypatch.setattr(workers, "_WATCH_S", 0.01)
    seen = []

    def work(items):
        for _ in items:
            time.sleep(0.01)

    run_workers(work, 40, num_workers=2, watch=seen.append)
    assert seen == sorted(seen) and 0 < seen[-1] <= 40


def test_a_failure_is_raised_here_and_the_other_processes_stop():
    begun = shared_zeros(10_000, np.uint8)

    def work(items):
        for item in items:
            begun[item] = 1
            if item == 5:
                raise ValueError("item 5")
            time.sleep(0.01)

    with pytest.raises(ValueError, match="item 5"):
        run_workers(work, len(begun), num_workers=3)
    assert begun.sum() < len(begun)


def test_a_killed_process_is_told():
    def work(items):
        for item in items:
            if item == 3:
                os._exit(9)

    with pytest.raises(DataError, match="was killed: out of memory"):
        run_workers(work, 100, num_workers=2)


def test_when_a_process_cannot_be_started_the_first_ones_end_too():
    """In a program of its own, which must come to its end."""
    program = """
import os
from spikedistill.data.prepare import workers
fork, forks = os.fork, []
def second_fails():
    forks.append(0)
    if len(forks) == 2:
        raise BlockingIOError("no more processes")
    return fork()
os.fork = second_fails
workers.run_workers(list, 8, num_workers=2)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "BlockingIOError: no more processes" in ended.stderr


def test_one_that_waits_for_a_killed_one_ends_whatever_its_signals_did_before():
    previous = signal.signal(signal.SIGTERM, lambda *_: None)
    try:

        def work(items):
            if next(items, 1) == 0:
                items.gi_frame.f_locals["self"]._lock.acquire()
                os._exit(9)
            list(items)

        with pytest.raises(DataError, match="was killed"):
            run_workers(work, 100, num_workers=2)
    finally:
        signal.signal(signal.SIGTERM, previous)
