"""The ranks of a job on this machine end together, whichever of them dies, and without Slurm, which would see to it."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import pytest
from submitit.local.local import LOCAL_REQUEUE_RETURN_CODE

from slurm_lab.main_process import wait_for
from snakemake_executor_plugin_submitit.job import controller, ranks
from snakemake_executor_plugin_submitit.job.controller import RankController
from snakemake_executor_plugin_submitit.submission.submit import submit

TWO_RANKS = {"tasks_per_node": 2, "mem_mb": 100}


def task_of(job, rank):
    """The process of a rank's task; None before it has begun."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
            if parent == job.job_id and f"SUBMITIT_LOCAL_GLOBALID={rank}".encode() in (process / "environ").read_bytes().split(
                b"\0"
            ):
                return int(process.name)
    return None


def wait_until_ended(job, timeout_s):
    """Wait for the end of a job and return its exit status; a job that goes on is cancelled."""
    try:
        wait_for(lambda: job.poll() is not None, timeout_s, "the end of the job")
    finally:
        job.cancel()
    return job.poll()


def is_alive(pid):
    return Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def test_if_the_task_of_rank_0_is_killed_the_job_ends_and_says_so(tmp_path):
    command = f"spmd sh -c 'echo $$ > {tmp_path}/pid$RANK; exec sleep 600'"
    job = submit(command, cluster="local", folder=tmp_path, name="pair", resources=TWO_RANKS)
    try:
        wait_for(lambda: all((tmp_path / f"pid{rank}").exists() for rank in (0, 1)), 60, "both ranks")
        os.kill(task_of(job, 0), signal.SIGKILL)
    except BaseException:
        job.cancel()
        raise
    assert wait_until_ended(job, 15) == -signal.SIGKILL
    told = job.explain()
    assert f"killed by SIGKILL, rank 0 failed first (killed by SIGKILL), node {ranks.host()}" in told
    assert "100 MB were requested" in told and f"{job.job_id}_0_log.out" in told
    wait_for(lambda: not any(is_alive((tmp_path / f"pid{rank}").read_text().strip()) for rank in (0, 1)), 10, "their commands")


@pytest.mark.slow
def test_if_rank_1_is_killed_before_rank_0_knows_it_the_job_ends_and_says_so(tmp_path):
    command = f"touch {tmp_path}/begun; exec sleep 600"
    job = submit(command, cluster="local", folder=tmp_path, name="pair", resources=TWO_RANKS)
    try:
        wait_for(lambda: (tmp_path / "begun").exists() and task_of(job, 1), 60, "both ranks")
        os.kill(task_of(job, 1), signal.SIGKILL)
    except BaseException:
        job.cancel()
        raise
    assert wait_until_ended(job, controller.GRACE_S + 15) != 0
    told = job.explain()
    assert "rank 1 failed first (killed by SIGKILL)" in told
    assert f"{job.job_id}_1_log.out" in told


@pytest.fixture
def control(tmp_path, monkeypatch):
    """Run two tasks, a shell command each, which have six seconds to live and one second more after a failure."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(controller, "GRACE_S", 1.0)

    def run(first, second, timeout_s=6, delay_s=1):
        variables = {
            "NTASKS": 2,
            "COMMAND": f"""sh -c 'if [ "$SUBMITIT_LOCAL_LOCALID" = 0 ]; then {first}; else {second}; fi'""",
            "TIMEOUT_S": timeout_s,
            "SIGNAL_DELAY_S": delay_s,
            "WITH_SHELL": "",
        }
        for name, value in variables.items():
            monkeypatch.setenv(f"SUBMITIT_LOCAL_{name}", str(value))
        monkeypatch.setenv("SUBMITIT_STDERR_TO_STDOUT", "1")
        monkeypatch.chdir(tmp_path)
        began = time.monotonic()
        RankController(tmp_path).run()
        return time.monotonic() - began

    yield run
    signal.signal(signal.SIGTERM, before)


def result(folder):
    return json.loads((folder / "result.json").read_text())


def test_ranks_that_end_well_have_their_time(control, tmp_path):
    assert control("sleep 2", "exit 0") >= 2
    assert not (tmp_path / "result.json").exists(), "rank 0 alone writes that"


def test_a_job_goes_back_into_the_queue_as_often_as_its_ranks_ask(control, tmp_path):
    control(f"echo >> attempts; test $(wc -l < attempts) = 8 || exit {LOCAL_REQUEUE_RETURN_CODE}", "exit 0")
    assert (tmp_path / "attempts").read_text() == 8 * "\n"


def test_what_rank_0_has_reported_stays(control, tmp_path):
    assert control('echo "{\\"status\\": 3}" > result.json; exit 3', "exec sleep 60") < 4
    assert result(tmp_path) == {"status": 3}


def test_rank_0_is_told_who_failed_before_it_is_ended(control, tmp_path):
    folder = ranks.attempt_folder(tmp_path, str(os.getpid()), 0, 0)
    folder.mkdir()
    assert control("exec sleep 60", "exit 7") < 4
    failure = json.loads((folder / ranks.FAILURE).read_text())
    assert (failure["rank"], failure["status"]) == (1, 7)
    assert result(tmp_path) == {"status": 7, "host": ranks.host(), "failure": failure}


def test_the_others_are_told_at_once_that_rank_0_is_gone(control, tmp_path):
    folder = ranks.attempt_folder(tmp_path, str(os.getpid()), 0, 0)
    folder.mkdir()
    control("exit 7", f"while [ ! -e {folder / ranks.END} ]; do sleep 0.1; done; touch orderly")
    assert (tmp_path / "orderly").exists()


def test_a_job_that_is_to_run_again_has_not_failed(control, tmp_path):
    is_second = "[ $(wc -l < begun) = 2 ]"
    first = f'echo x >> begun; trap "exit 144" USR2; {is_second} || while :; do sleep 0.1; done'
    second = f'trap "touch orderly; exit 0" USR2; sleep 0.2; {is_second} || sleep 3'
    control(first, second, delay_s=5)
    assert (tmp_path / "begun").read_text() == "x\nx\n"
    assert (tmp_path / "orderly").exists(), "the others have their time"
    assert not (tmp_path / "result.json").exists()
