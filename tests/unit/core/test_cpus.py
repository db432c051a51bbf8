"""A rank uses the CPUs that it has, and not those of the ranks beside it."""

import os

import pytest

from spikedistill.cpus import own_cpus

VISIBLE = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("given", "expected"),
    [("1", 1), ("1,2", 1), (str(VISIBLE + 1), VISIBLE), ("", VISIBLE), ("0", VISIBLE), ("-3", VISIBLE), ("many", VISIBLE)],
)
def test_the_share_of_a_rank(monkeypatch, given, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert own_cpus() == expected


def test_without_a_share_all_that_are_visible(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert own_cpus() == VISIBLE
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 7})
    assert own_cpus() == 4
