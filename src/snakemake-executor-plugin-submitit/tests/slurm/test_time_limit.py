"""Jobs that reach their time limit. They start with the cluster and run beside the other tests: limits are in minutes."""

from slurm_lab.scenarios import repeated, starts


def test_the_time_limit_three_times_is_one_success(time_limits):
    """Of two jobs of an array."""
    main = time_limits["limit"]
    output = main.succeeds(400)
    for training in (main.folder / "a", main.folder / "b"):
        assert len(starts(training)) == 4
        assert len({job_id for job_id, _ in starts(training)}) == 1
        assert repeated(training) <= 3
    assert "Trying to restart" not in output


def test_the_time_limit_once_too_often_is_an_error_that_says_so(time_limits):
    """Of a job of two ranks."""
    main = time_limits["exhausted"]
    output = main.fails(400)
    assert len(starts(main.folder / "a")) == 2
    assert repeated(main.folder / "a") <= 1
    assert "state TIMEOUT (the time limit was reached 2 times)" in output
    assert "hint: it needs more time: raise runtime" in output
