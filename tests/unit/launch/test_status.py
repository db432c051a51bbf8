"""What `spikedistill status` says about a stage that did not end."""

import json
import os
import time
from pathlib import Path

import yaml

from snakemake_executor_plugin_submitit.processes import ProcessId
from spikedistill.cli import main
from spikedistill.config.check import parse_config
from spikedistill.plan.build import build_plan
from spikedistill.plan.stages import TeacherSpec
from spikedistill.store.artifacts import Store
from spikedistill.store.lease import STALE_S

TRAIN = {"epochs": 9, "batch_size": 64}
EXPERIMENT = {
    "dataset": {"name": "digits"},
    "teacher": {"arch": "resnet8", "train": TRAIN},
    "student": {"arch": "resnet8", "time_steps": 2, "train": TRAIN},
    "methods": {"kd": {}},
}


def state_of_the_teacher(capsys):
    assert main(["status"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("teacher "))
    return line.split(maxsplit=2)[2]


def test_status_counts_the_epochs_before_a_line_that_was_cut(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = {"experiments": {"digits": EXPERIMENT}}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    plan = build_plan(parse_config(config))
    (teacher,) = (spec for spec in plan.stages.values() if isinstance(spec, TeacherSpec))
    assert state_of_the_teacher(capsys) == "not started"
    work = Store("store").work(teacher.ref)
    work.mkdir(parents=True)
    (work / "lease").write_text(json.dumps({"owner": "a job", "host": "node7", "pid": 7}))
    assert state_of_the_teacher(capsys) == "running on node7"
    whole = "".join(json.dumps({"epoch": epoch, "train/loss": 0.5}) + "\n" for epoch in range(3))
    (work / "metrics.jsonl").write_text(whole)
    assert state_of_the_teacher(capsys) == "running on node7, 3 epochs done"
    (work / "metrics.jsonl").write_text(whole + '{"epoch": 3, "train/lo')
    assert state_of_the_teacher(capsys) == "running on node7, 3 epochs done"
    long_ago = time.time() - 2 * STALE_S
    os.utime(work / "lease", (long_ago, long_ago))
    assert state_of_the_teacher(capsys) == "interrupted on node7, 3 epochs done; resumes when run again"
    here = ProcessId.own().to_json() | {"started": 1}  # a process of this machine that is gone, whatever the date of its lease
    (work / "lease").write_text(json.dumps({"owner": "a job", "pid": 7, "host": here["host"], "process": here}))
    assert state_of_the_teacher(capsys).startswith(f"interrupted on {here['host']}, 3 epochs done")
