"""What the user is told of a failed job, from its folder."""

import json
import sys

import pytest

from slurm_lab.running import run
from snakemake_executor_plugin_submitit.submission import states
from snakemake_executor_plugin_submitit.submission.states import State
from snakemake_executor_plugin_submitit.submission.submit import LOG_TAIL, LONGEST_LINE, START_OF_ATTEMPT, SubmittedJob


@pytest.fixture
def job(tmp_path):
    return SubmittedJob("slurm", tmp_path, "train", "5", mem_mb=500)


def write_result(job, **result):
    (job.folder / "result.json").write_text(json.dumps({"status": 1, "host": "node1"} | result))


def test_of_a_huge_log_only_the_end_is_read(job, tmp_path):
    with job.rank_log(0).open("wb") as log:
        log.truncate(2 << 30)
        log.seek(0, 2)
        log.write(b"\n" + b"x" * 100_000 + b"\n" + b"".join(b"line %d\n" % number for number in range(100)))
    program = (
        "import pathlib, resource, sys\n"
        "from snakemake_executor_plugin_submitit.submission.submit import SubmittedJob\n"
        "job = SubmittedJob('slurm', pathlib.Path(sys.argv[1]), 'train', '5')\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "text = job.explain()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
        "print(text)\n"
    )
    done = run(tmp_path, sys.executable, "-c", program, str(tmp_path))
    grown_kb, *text = done.stdout.splitlines()
    assert int(grown_kb) < 50_000, "of 2 GB of log"
    assert [line.strip() for line in text[-LOG_TAIL:]] == [f"line {number}" for number in range(100 - LOG_TAIL, 100)]


def test_a_line_of_endless_length_is_cut(job):
    job.rank_log(0).write_text("y" * 500_000)
    assert len(job.explain()) < 2 * LONGEST_LINE


def test_srun_names_the_rank_also_at_the_end_of_a_huge_log(job):
    text = f"{START_OF_ATTEMPT}\nsrun: error: node9: task 9: Killed\n{START_OF_ATTEMPT}\n" + "step\n" * 100_000
    job.rank_log(0).write_text(text + "srun: error: node2: task 2: Killed\n")
    assert "rank 2 failed first (killed), node node2" in job.explain(State("FAILED", "", "node[1-2]"))


@pytest.mark.parametrize("status", [-9, 1])
def test_a_command_that_was_killed_is_told_with_the_memory_that_it_asked_for(job, status):
    job.rank_log(0).write_text("/usr/bin/bash: line 1:  4711 Killed                  python train.py\n" if status > 0 else "")
    write_result(job, status=status)
    told = job.explain()
    assert ", killed by SIGKILL, node node1" in told
    assert ("exit status 1" in told) == (status == 1)
    assert "hint: SIGKILL often means out of memory: 500 MB were requested (mem_mb)" in told


def test_other_signals_and_exit_statuses_are_told_as_they_are(job, monkeypatch):
    write_result(job, status=-11)
    assert "killed by SIGSEGV" in job.explain()
    assert "out of memory" not in job.explain()
    write_result(job, status=3)
    assert "exit status 3" in job.explain()
    (job.folder / "result.json").unlink()
    monkeypatch.setattr(states, "exit_signal", lambda job_id: 9)
    assert "failed, killed by SIGKILL, node node1" in job.explain(State("FAILED", "", "node1"))
    assert "SIGKILL" not in job.explain(State("CANCELLED", "", "node1"))
