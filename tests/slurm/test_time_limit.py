"""Jobs that reach their time limit. They start with the cluster and run beside the other tests: limits are in minutes."""

from tests.slurm.main_process import lines
from tests.slurm.scenarios import repeated


def test_the_time_limit_three_times_is_one_success(time_limits):
    main = time_limits["limit"]
    output = main.succeeds(400)
    assert len(lines(main.folder / "starts")) == 4
    assert len({line.split()[0] for line in lines(main.folder / "starts")}) == 1
    assert repeated(main.folder) <= 3
    assert "Trying to restart" not in output


def test_the_time_limit_once_too_often_is_an_error_that_says_so(time_limits):
    main = time_limits["exhausted"]
    output = main.fails(400)
    assert len(lines(main.folder / "starts")) == 2
    assert "state TIMEOUT (the time limit was reached 2 times)" in output
    assert "hint: it needs more time: raise runtime" in output
