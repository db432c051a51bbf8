"""Waiting for one job that was submitted by itself: which queries are made, by a clock that the test sets."""

from types import SimpleNamespace

import pytest

from slurm_lab.main_process import lines, write_program
from snakemake_executor_plugin_submitit.submission import submit
from snakemake_executor_plugin_submitit.submission.submit import SubmittedJob

SQUEUE = """\
#!/bin/sh
echo x >> $0.calls
echo "5|$(cat $0.state)|None|node1"
"""


@pytest.fixture
def clock(monkeypatch):
    def sleep(seconds):
        clock.now += seconds
        clock.on_second(round(clock.now))

    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now, sleep=sleep)
    monkeypatch.setattr(submit, "time", clock)
    return clock


@pytest.fixture
def state(monkeypatch, tmp_path):
    """What squeue says; its calls are noted."""
    monkeypatch.setenv("PATH", str(write_program(tmp_path, "squeue", SQUEUE)), prepend=":")
    path = tmp_path / "squeue.state"
    path.write_text("RUNNING")
    return path


def test_the_result_is_looked_for_every_second_and_slurm_is_asked_seldom(clock, state, tmp_path):
    clock.on_second = lambda now: now == 300 and (tmp_path / "result.json").write_text('{"status": 3}')
    assert SubmittedJob("slurm", tmp_path, "work", "5").wait() == 3
    assert clock.now == 300
    assert 300 / 20 <= len(lines(tmp_path / "squeue.calls")) < 25


def test_a_job_that_ended_without_a_result_is_asked_for_soon_again(clock, state, tmp_path):
    clock.on_second = lambda now: now == 300 and state.write_text("CANCELLED")
    assert SubmittedJob("slurm", tmp_path, "work", "5").wait() == 1
    assert clock.now <= 300 + submit.LONGEST_PAUSE_S + 3


def test_a_job_that_slurm_has_forgotten_is_not_waited_for_for_ever(clock, state, tmp_path):
    write_program(tmp_path, "sacct", "#!/bin/sh\n")
    clock.on_second = lambda now: now == 300 and (tmp_path / "squeue").write_text("#!/bin/sh\n")
    assert SubmittedJob("slurm", tmp_path, "work", "5").wait() == 1
    assert 300 + submit.LOST_S < clock.now <= 300 + submit.LOST_S + submit.LONGEST_PAUSE_S + 3
