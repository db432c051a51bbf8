"""When stages and runs are expected to be done."""

from types import SimpleNamespace

import pytest

from spikedistill.launch.jobs.job import Job
from spikedistill.launch.status.files import Work
from spikedistill.launch.status.forecast import Estimates, end_of_run, left_of
from spikedistill.launch.status.snapshot import Progress, StageStatus
from spikedistill.plan.estimate import Cost

NOW = 1000.0


def spec(ref="students/a", stage="distill"):
    return SimpleNamespace(ref=ref, stage=stage)


def estimates(seconds=100.0):
    return Estimates(lambda spec: Cost(seconds / 3600, 1, 1, 0, 0))


def stage(ref, state="waiting", left_s=100.0, **fields):
    return StageStatus(ref, "distill", state, "", left_s=left_s, **fields)


def test_the_estimate_counts_until_there_is_a_rate():
    assert left_of(spec(), Work(), estimates(), runs=False, now=NOW).seconds == 100
    assert left_of(spec(), Work(started=NOW - 30), estimates(), runs=True, now=NOW).seconds == 70
    work = Work(started=NOW - 30, progress=Progress(2, 10, epoch_s=5.0), progress_at=NOW - 3)
    left = left_of(spec(), work, estimates(), runs=True, now=NOW)
    assert (left.seconds, left.is_estimate) == (8 * 5.0 - 3, False)
    assert left_of(spec(), work, estimates(), runs=False, now=NOW).seconds == 40.0  # it waits in the queue
    resumed = Work(started=NOW - 3, progress=Progress(2, 10, epoch_s=5.0), progress_at=NOW - 300)
    assert left_of(spec(), resumed, estimates(), runs=True, now=NOW).seconds == 8 * 5.0 - 3


def test_a_stage_that_takes_longer_than_its_estimate_has_no_forecast():
    assert left_of(spec(), Work(started=NOW - 300), estimates(), runs=True, now=NOW).seconds is None


def test_estimates_follow_what_stages_of_a_kind_took_once_three_are_done():
    known = estimates()
    for count, wall_s in enumerate((150.0, 200.0, 1000.0)):
        assert known.seconds(spec()) == 100, count
        known.learn(spec(), wall_s)
    assert known.seconds(spec()) == pytest.approx(200)
    assert known.seconds(spec(stage="evaluate")) == 100


def test_a_run_ends_after_its_longest_chain_or_when_its_places_are_through():
    stages = [stage("a", "running", 50), stage("b", "running", 80), stage("c"), stage("d"), stage("e", "done", None)]
    upstream = {"a": ["e"], "b": ["e"], "c": ["a"], "d": ["b"], "e": []}
    assert end_of_run(stages, upstream, 2, NOW) == NOW + 180
    assert end_of_run(stages, upstream, 1, NOW) == NOW + 330
    assert end_of_run(stages, upstream, 0, NOW) is None
    assert end_of_run(stages[4:], upstream, 2, NOW) is None


def test_a_job_that_is_pending_starts_no_earlier_than_slurm_expects():
    waits = stage("a", "pending", 10, job=Job("slurm", "1", None, "PENDING", start=NOW + 500))
    assert end_of_run([waits], {"a": []}, 4, NOW) == NOW + 510


def test_stages_that_are_blocked_do_not_hold_the_end_up():
    stages = [stage("a", "failed"), stage("b", "blocked"), stage("c", "running", 30)]
    assert end_of_run(stages, {"a": [], "b": ["a"], "c": []}, 2, NOW) == NOW + 30
