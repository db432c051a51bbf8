"""The benchmarks of the executor plugin start their own cluster; here each runs in its short form."""

import json
import sys

import pytest

from slurm_lab.running import run
from tests.workflow.project import ROOT

LEFT_OUT = "the slurm plugin is left out"


@pytest.fixture
def without_baseline(tmp_path):
    return ["--baseline-python", str(tmp_path / "nothing")]


def test_noop_jobs_through_the_executor(tmp_path, without_baseline):
    command = [sys.executable, "benchmarks/executor.py", "--jobs", "4", "--nodes", "1", *without_baseline]
    done = run(ROOT, *command, "--out", str(tmp_path / "figures.json"))
    assert done.returncode == 0, done.stdout
    assert LEFT_OUT in done.stdout
    rows = {row["contender"]: row for row in json.loads((tmp_path / "figures.json").read_text())["rows"]}
    assert list(rows) == ["bare", "submitit", "pools"]
    submitit = rows["submitit"]
    assert submitit["calls"]["sbatch"] == 1, "four equal jobs are one array"
    assert submitit["wall_s"] > 0 and submitit["main_mb"] > 0 and submitit["job_s"] > 0


def test_a_workflow_of_stages(without_baseline):
    done = run(ROOT, sys.executable, "benchmarks/dag_scale.py", "--jobs", "6", "--nodes", "1", *without_baseline)
    assert done.returncode == 0, done.stdout
    assert LEFT_OUT in done.stdout
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [(row["contender"], row["jobs"], row["failed"]) for row in rows] == [("pools", 6, ""), ("submitit", 6, "")]


def test_thousands_of_pending_jobs(tmp_path):
    command = [
        sys.executable,
        "benchmarks/pending.py",
        "--jobs",
        "30",
        "--waiting-s",
        "2",
        "--out",
        str(tmp_path / "figures.json"),
    ]
    done = run(ROOT, *command)
    assert done.returncode == 0, done.stdout
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert figures["inodes_per_job"] < 4, "three for a job, and a few for all"
    assert min(figures[name] for name in ("submit_cpu_s", "adopt_s", "empty_s")) > 0
