"""The records that a tracker writes to disk, to the log and to a terminal."""

import io
import json
import logging
import re
import sys
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from spikedistill.train.tracking import Tracker

SCALARS = {
    "train/loss": 0.5,
    "train/accuracy(%)": 80.0,
    "time/epoch(s)": 2.0,
    "time/throughput(samples/s)": 100.0,
}


@pytest.fixture
def open_tracker(tmp_path):
    def make(start_epoch=0, start_step=0, **given):
        metrics, tensorboard = tmp_path / "run" / "metrics.jsonl", tmp_path / "tensorboard"
        return Tracker(metrics, tensorboard, num_epochs=5, steps_per_epoch=50, **given).open(start_epoch, start_step)

    return make


def epochs_in(tmp_path):
    return [json.loads(line)["epoch"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]


def test_one_line_per_epoch(tmp_path, open_tracker):
    with open_tracker() as tracker:
        tracker.record(0, SCALARS)
        tracker.record(1, SCALARS | {"train/loss": 0.25})
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"epoch": 0, **SCALARS},
        {"epoch": 1, **SCALARS, "train/loss": 0.25},
    ]


def test_records_are_on_disk_before_the_tracker_closes(tmp_path, open_tracker):
    with open_tracker() as tracker:
        tracker.record(0, SCALARS)
        assert epochs_in(tmp_path) == [0]


def test_resume_drops_records_newer_than_the_checkpoint(tmp_path, open_tracker):
    with open_tracker() as tracker:
        for epoch in range(4):
            tracker.record(epoch, SCALARS)
    with open_tracker(start_epoch=2) as tracker:
        tracker.record(2, SCALARS)
    assert epochs_in(tmp_path) == [0, 1, 2]


def test_resume_drops_a_line_cut_by_a_crash(tmp_path, open_tracker):
    with open_tracker() as tracker:
        tracker.record(0, SCALARS)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as stream:
        stream.write('{"epoch": 1, "train/lo')
    with open_tracker(start_epoch=1) as tracker:
        tracker.record(1, SCALARS)
    assert epochs_in(tmp_path) == [0, 1]


def test_tensorboard_shows_every_scalar(tmp_path, open_tracker):
    with open_tracker() as tracker:
        tracker.record(3, SCALARS)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == set(SCALARS)
    assert [(e.step, e.value) for e in events.Scalars("train/accuracy(%)")] == [(3, 80.0)]


def test_an_epoch_is_one_line_in_the_log(open_tracker, caplog):
    with caplog.at_level(logging.INFO), open_tracker() as tracker:
        tracker.record(1, SCALARS)
    assert caplog.messages == ["epoch 2/5: loss 0.5000, accuracy 80.0 %, 100 samples/s, 6 s left"]


def test_a_step_is_shown_when_due_and_not_before(open_tracker, caplog):
    with caplog.at_level(logging.INFO):
        with open_tracker(interval_s=3600) as tracker:
            assert not tracker.is_due()
        with open_tracker(interval_s=0) as tracker:
            assert tracker.is_due()
            tracker.show_step(0, 20, loss=1.25, accuracy=33.3, samples_per_s=640.0)
    assert caplog.messages == ["epoch 1/5, step 20/50: loss 1.2500, accuracy 33.3 %, 640 samples/s"]


def test_who_looks_on_finds_the_step_beside_the_metrics(tmp_path, open_tracker):
    with open_tracker(interval_s=0) as tracker:
        tracker.show_step(1, 20, loss=1.25, accuracy=33.3, samples_per_s=640.0)
    (note,) = tmp_path.rglob("step.json")
    found = json.loads(note.read_text())
    assert found == {"epoch": 1, "step": 20, "steps": 50, "loss": 1.25, "accuracy(%)": 33.3, "throughput(samples/s)": 640.0}


def test_a_terminal_shows_a_bar_with_steps_and_time_left(open_tracker, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    with open_tracker(start_epoch=1, start_step=10, interval_s=0) as tracker:
        time.sleep(0.15)
        tracker.show_step(1, 20, loss=1.25, accuracy=33.3, samples_per_s=640.0)
    shown = terminal.getvalue().split("\r")
    assert "| 60/250 [" in shown[1]
    assert re.search(r"\| 70/250 \[\d+:\d+<\d+:\d+, .*epoch 2/5, loss 1\.2500, accuracy 33\.3 %, 640 samples/s\]", shown[-1])


def test_ranks_other_than_the_main_process_write_nothing(tmp_path, open_tracker):
    with open_tracker(active=False, interval_s=0) as tracker:
        assert not tracker.is_due()
        tracker.record(0, SCALARS)
    assert not list(tmp_path.iterdir())
