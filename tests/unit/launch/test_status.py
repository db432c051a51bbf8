"""What `spikedistill status` says about stages, by the files of the store."""

import json
import os
import re
import time
import types
from pathlib import Path

import pytest
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
CONFIG = {"experiments": {"digits": EXPERIMENT}}


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(yaml.safe_dump(CONFIG))
    return build_plan(parse_config(CONFIG))


@pytest.fixture
def work(plan):
    """The work folder of the teacher."""
    (teacher,) = (spec for spec in plan.stages.values() if isinstance(spec, TeacherSpec))
    folder = Store("store").work(teacher.ref)
    folder.mkdir(parents=True)
    return folder


def status(capsys, *arguments):
    assert main(["status", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def teacher(capsys):
    (stage,) = (stage for stage in status(capsys)["stages"] if stage["stage"] == "teacher")
    return stage


def hold(work, **holder):
    (work / "lease").write_text(json.dumps({"owner": "a job", "host": "node7", "pid": 7, **holder}))


def epochs(count, **scalars):
    return "".join(json.dumps({"epoch": epoch, "train/loss": 0.5, **scalars}) + "\n" for epoch in range(count))


def test_epochs_are_counted_up_to_a_line_that_was_cut(work, capsys):
    hold(work)
    assert (teacher(capsys)["state"], teacher(capsys)["said"]) == ("running", "running on node7")
    (work / "metrics.jsonl").write_text(epochs(3))
    assert teacher(capsys)["progress"]["epoch"] == 3
    (work / "metrics.jsonl").write_text(epochs(3) + '{"epoch": 3, "train/lo')
    assert teacher(capsys)["progress"]["epoch"] == 3
    assert teacher(capsys)["progress"]["epochs"] == 9


def test_a_lease_that_nobody_keeps_alive_is_of_a_run_that_was_interrupted(work, capsys):
    hold(work)
    (work / "metrics.jsonl").write_text(epochs(3))
    long_ago = time.time() - 2 * STALE_S
    (work / "starts.jsonl").write_text(json.dumps({"started": "2026-01-01T00:00:00+00:00"}) + "\n")
    os.utime(work / "lease", (long_ago, long_ago))
    assert teacher(capsys)["state"] == "interrupted"
    assert teacher(capsys)["said"] == "interrupted on node7, 3 epochs done; resumes when run again"


def test_a_lease_of_a_process_that_is_gone_from_this_machine_does_not_count_whatever_its_date(work, capsys):
    here = ProcessId.own().to_json() | {"started": 1}
    hold(work, host=here["host"], process=here)
    (work / "starts.jsonl").write_text(json.dumps({"started": "2026-01-01T00:00:00+00:00"}) + "\n")
    assert teacher(capsys)["state"] == "interrupted"


def test_what_is_left_follows_the_stages_own_rate_once_an_epoch_is_done(work, capsys):
    hold(work)
    assert teacher(capsys)["is_estimate"]
    (work / "metrics.jsonl").write_text(epochs(4, **{"time/epoch(s)": 60.0, "time/throughput(samples/s)": 512.0}))
    stage = teacher(capsys)
    assert not stage["is_estimate"]
    assert 290 < stage["left_s"] <= 300
    assert stage["progress"]["samples_per_s"] == 512.0


def test_within_a_long_epoch_the_last_note_counts(work, capsys):
    hold(work)
    note = {"epoch": 0, "step": 5, "steps": 20, "loss": 1.5, "accuracy(%)": 40.0, "throughput(samples/s)": 12.8}
    (work / "step.json").write_text(json.dumps(note))
    stage = teacher(capsys)
    assert (stage["progress"]["epoch"], stage["progress"]["part"], stage["progress"]["loss"]) == (0, 0.25, 1.5)
    assert not stage["is_estimate"]
    assert 865 < stage["left_s"] <= 875  # 8.75 epochs of 20 steps of 64 samples
    (work / "metrics.jsonl").write_text(epochs(1, **{"time/epoch(s)": 60.0}))
    assert (teacher(capsys)["progress"]["epoch"], teacher(capsys)["progress"]["part"]) == (1, 0.0)
    (work / "step.json").write_text(json.dumps(note | {"epoch": 1}))
    assert 455 < teacher(capsys)["left_s"] <= 465


@pytest.mark.parametrize(
    "change", [{"steps": 0}, {"step": -1}, {"epoch": 9}, {"epoch": "x"}, {"throughput(samples/s)": float("nan")}]
)
def test_a_note_that_makes_no_sense_is_left_out(work, change, capsys):
    hold(work)
    (work / "step.json").write_text(json.dumps({"epoch": 0, "step": 5, "steps": 20, "throughput(samples/s)": 0.0} | change))
    assert teacher(capsys)["is_estimate"]


def preparation(plan, **note):
    """The work folder of the data, with a note of how far its preparation is."""
    (data,) = (spec for spec in plan.stages.values() if spec.stage == "preprocess")
    folder = Store("store").work(data.ref)
    folder.mkdir(parents=True)
    (folder / "progress.json").write_text(json.dumps({"done": 300, "total": 1200, "unit": "images", "rate(1/s)": 3.0} | note))
    return folder


def test_a_preparation_shows_how_much_is_done_how_fast_and_what_is_left(plan, capsys):
    hold(preparation(plan))
    (stage,) = (stage for stage in status(capsys)["stages"] if stage["stage"] == "preprocess")
    assert (stage["progress"]["part"], stage["progress"]["samples_per_s"], stage["progress"]["unit"]) == (0.25, 3.0, "images")
    assert 290 < stage["left_s"] <= 300 and not stage["is_estimate"]
    assert main(["status"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("preprocess"))
    assert re.search(r"running on node7 +25\.0 % +3 +5 min", line), line


def test_an_interrupted_preparation_says_how_much_is_done(plan, capsys):
    (preparation(plan) / "starts.jsonl").write_text('{"started": "2026-01-01T00:00:00+00:00"}\n')
    (stage,) = (stage for stage in status(capsys)["stages"] if stage["stage"] == "preprocess")
    assert stage["said"] == "interrupted, 25 % of the images done; resumes when run again"


@pytest.mark.parametrize(
    "change",
    [
        {"total": 0},
        {"total": int("9" * 400)},
        {"done": 1201},
        {"done": "x"},
        {"rate(1/s)": float("nan")},
        {"rate(1/s)": 1e-300},
        {"unit": None},
    ],
)
def test_a_note_of_a_preparation_that_makes_no_sense_is_left_out(plan, change, capsys):
    hold(preparation(plan, **change))
    (stage,) = (stage for stage in status(capsys)["stages"] if stage["stage"] == "preprocess")
    assert stage["is_estimate"]


def test_stages_say_what_they_wait_for(plan, capsys):
    stages = {stage["stage"]: stage for stage in status(capsys)["stages"]}
    assert stages["preprocess"]["said"] == "not started"
    assert stages["teacher"]["said"].startswith("waits for digits-")
    assert stages["distill"]["said"] == "waits for 2 stages"
    totals = status(capsys)["totals"]
    assert totals["counts"] == {"ready": 1, "waiting": 4}
    assert totals["end"] is None  # nothing is under way


@pytest.mark.parametrize(
    "entry",
    [
        {"epoch": 2, "train/loss": float("nan"), "time/epoch(s)": "fast"},
        {"epoch": 10**9, "time/epoch(s)": float("inf")},
        {"epoch": 1, "train/loss": int("9" * 400), "time/epoch(s)": 1e300},
        {"epoch": 1, "time/epoch(s)": 1e14},
        {"epoch": "\x1b[2J"},
        [],
        "[" * 100_000,
    ],
)
def test_metrics_of_a_colleague_cannot_break_the_view(work, entry, capsys):
    hold(work, host="node7\x1b[2J" + "x" * 10_000)
    (work / "metrics.jsonl").write_text((entry if isinstance(entry, str) else json.dumps(entry)) + "\n")
    stage = teacher(capsys)
    assert stage["state"] == "running"
    assert "\x1b" not in stage["said"] + stage["host"]
    assert len(stage["said"]) < 300


@pytest.mark.parametrize("name", ["lease", "metrics.jsonl", "starts.jsonl", "step.json"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(work, name, capsys):
    os.mkfifo(work / name)
    assert teacher(capsys)["state"] == "waiting"


def test_the_table_names_every_stage_and_drops_columns_that_are_empty(work, capsys):
    hold(work)
    (work / "metrics.jsonl").write_text(epochs(3, **{"train/accuracy(%)": 87.25}))
    assert main(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.split(r"\s{2,}", lines[0].strip()) == ["stage", "artifact", "state", "epoch", "loss", "train", "left"]
    (row,) = (line for line in lines if line.startswith("teacher"))
    assert "3/9" in row and "0.5000" in row and "87.2" in row
    assert sum(line.split("  ")[0] in ("preprocess", "teacher", "distill", "evaluate") for line in lines) == 5


def test_the_watch_tells_changes_in_lines_where_there_is_no_terminal(work, plan, capsys, monkeypatch):
    hold(work)
    looks = iter(range(3))

    def next_look(seconds):
        assert seconds == 2.0
        (work / "metrics.jsonl").write_text(epochs(next(looks) + 1))

    monkeypatch.setattr("spikedistill.launch.status.watch.time", types.SimpleNamespace(sleep=next_look))
    with pytest.raises(StopIteration):
        main(["status", "--watch", "2"])
    lines = [line.partition(" ")[2] for line in capsys.readouterr().out.splitlines()]
    about = [line for line in lines if line.startswith("teacher")]
    assert ["epoch 1/9" in line for line in about] == [False, True, False, False]
    assert sum("5 stages:" in line for line in lines) <= 4
