"""Work shared out to processes: everything is done once, and a process that fails or dies stops the others."""

import itertools
import os
import time

import numpy as np
import pytest

from spikedistill.data.workers import MOST_PER_TURN, share_out, shared_zeros
from spikedistill.errors import DataError


@pytest.mark.parametrize(("count", "num_workers"), [(1, 4), (7, 2), (1000, 3), (12, 1)])
def test_every_item_is_done_once(count, num_workers):
    times = shared_zeros(count, np.int64)

    def work(turns):
        done = 0
        for turn in turns:
            assert 1 <= len(turn) <= MOST_PER_TURN
            for item in turn:
                times[item] += 1
                done += 1
        return done, os.getpid()

    found = share_out(work, count, num_workers=num_workers, done="items done")
    assert sum(done for done, _ in found) == count
    assert len({pid for _, pid in found}) <= num_workers
    assert times.tolist() == [1] * count


def test_a_failure_is_raised_here_and_the_other_processes_stop():
    begun = shared_zeros(10_000, np.uint8)

    def work(turns):
        for item in itertools.chain.from_iterable(turns):
            begun[item] = 1
            if item == 5:
                raise ValueError("item 5")
            time.sleep(0.01)

    with pytest.raises(ValueError, match="item 5"):
        share_out(work, len(begun), num_workers=3, done="items done")
    assert begun.sum() < len(begun)


def test_a_killed_process_is_told():
    def work(turns):
        for turn in turns:
            if 3 in turn:
                os._exit(9)

    with pytest.raises(DataError, match="was killed: out of memory"):
        share_out(work, 100, num_workers=2, done="items done")
