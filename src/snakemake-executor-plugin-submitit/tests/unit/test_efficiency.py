"""The efficiency report for answers that a cluster does not give on demand; with real accounting: tests/slurm."""

import pytest

from slurm_lab.main_process import write_program
from slurm_lab.running import BIN, run
from snakemake_executor_plugin_submitit.tracking import efficiency

# as Slurm 22.05 answered: a job that was requeued, one on two nodes, and one task of an array with GPUs
ANSWER = """\
4|REQUEUED|120|5|00:00.500|1|billing=1,cpu=1,mem=300M,node=1|
4.batch|CANCELLED|120||00:00.500|1|cpu=1,mem=300M,node=1|cpu=00:00:00,energy=0,mem=3192K,vmem=5512K
2|COMPLETED|600|UNLIMITED|1-01:00:30|2|billing=4,cpu=4,mem=600M,node=2|
2.batch|COMPLETED|600||00:00.010|1|cpu=2,mem=300M,node=1|cpu=00:00:00,mem=10588K,vmem=286032K
2.0|COMPLETED|600||1-01:00:30|2|cpu=4,mem=600M,node=2|cpu=00:00:00,mem=204800K,vmem=261600K
3_1|CANCELLED by 0|3600|60|30:00|1|billing=2,cpu=2,gres/gpu:a100=4,gres/gpu=4,mem=1.50G,node=1|
4|PENDING|0|5|00:00:00|1||
5|CANCELLED by 0|0|5|00:00:00|0||
"""


@pytest.fixture
def usages(tmp_path, monkeypatch):
    programs = write_program(tmp_path, "sacct", f"#!/bin/sh\ncat <<'EOF'\n{ANSWER}EOF\n")
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    return efficiency.read_usage({"2": "train.a", "3_1": "part.x,y", "4": "part", "5": "never"})


def test_every_run_is_read_with_the_peak_of_its_steps(usages):
    never, requeued, task, train = usages
    assert (never.state, never.nodes, never.minutes_used, never.mem_mb_asked) == ("CANCELLED", 0, 0, None)
    assert (requeued.rule, requeued.state, requeued.mem_mb_used) == ("part", "REQUEUED", pytest.approx(3192 / 1024))
    assert (task.rule, task.job, task.state, task.gpus, task.mem_mb_asked) == ("part", "part.x,y", "CANCELLED", 4, 1536)
    assert task.mem_mb_used is None
    assert (train.nodes, train.minutes_asked, train.mem_mb_asked, train.mem_mb_used) == (2, None, 300, 100)
    assert train.cpu_minutes_used == 25 * 60 + 0.5


@pytest.mark.parametrize(("text", "megabytes"), [("1048576", 1), ("512K", 0.5), ("1.50G", 1536), ("2P", 2**31), ("1E", 2**40)])
def test_memory_is_read_in_any_unit(text, megabytes):
    assert efficiency._megabytes(text) == megabytes


def test_the_summary_has_a_row_for_each_rule(usages):
    rows = {line.split()[0]: line.split() for line in efficiency.summarise(usages).splitlines()[3:]}
    assert rows["part"] == ["part", "2", "2", "60", "60.0", "1536", "3", "0", "25", "4.0"]
    assert rows["train"] == ["train", "1", "0", "-", "10.0", "300", "100", "33", "3751", "0.0"]


def test_without_accounting_the_report_says_so(tmp_path):
    job_dir = tmp_path / "part" / "20260101T120000"
    job_dir.mkdir(parents=True)
    (job_dir / "7_0_log.out").touch()
    done = run(tmp_path, "python", "-m", "snakemake_executor_plugin_submitit.tracking.efficiency", ".", PATH=str(BIN))
    assert (done.returncode, done.stdout) == (0, "no efficiency report: there is no sacct on this machine\n")


def test_a_folder_without_logs_is_named(tmp_path):
    done = run(tmp_path, "python", "-m", "snakemake_executor_plugin_submitit.tracking.efficiency", "elsewhere")
    assert done.returncode == 1
    assert "elsewhere: there are no logs of jobs here; give the folder of --submitit-folder" in done.stdout
