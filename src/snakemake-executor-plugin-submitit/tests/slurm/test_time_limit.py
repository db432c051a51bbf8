"""Jobs that reach their time limit. They start with the session and run beside the other tests: limits are in minutes."""

from slurm_lab.main_process import lines
from slurm_lab.scenarios import repeated, starts


def test_the_time_limit_three_times_is_one_success(time_limits):
    """For two jobs of an array."""
    ended = time_limits.wait("limit", 500)
    assert ended.status == 0, ended.output
    for training in (ended.folder / "a", ended.folder / "b"):
        assert len(starts(training)) == 4
        assert len({job_id for job_id, _ in starts(training)}) == 1
        assert repeated(training) <= 3
        assert lines(training / "saves") == ["saved"] * 3
    assert "Trying to restart" not in ended.output


def test_the_time_limit_once_too_often_is_an_error_that_says_so(time_limits):
    """For a job of two ranks."""
    ended = time_limits.wait("exhausted", 500)
    assert ended.status != 0, ended.output
    assert len(starts(ended.folder / "a")) == 2
    assert repeated(ended.folder / "a") <= 1
    assert lines(ended.folder / "a" / "saves") == ["saved"] * 2
    assert "state TIMEOUT (the time limit was reached 2 times)" in ended.output
    assert "hint: it needs more time: raise runtime" in ended.output
