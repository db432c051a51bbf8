"""The training loop: exact resumption, several ranks, bad losses. Ranks are real processes (rank.py)."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.unit.train.rank import run_training

from spikedistill.errors import ConfigError, TrainingError
from spikedistill.train.checkpoint import CheckpointFolder
from spikedistill.train.distributed import World

SCRIPT = Path(__file__).with_name("rank.py")
STEPS_PER_EPOCH = 4


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def start(folder, task, *, num_ranks=1, **options):
    """Run all ranks to their end; return (exit status, stderr) of each."""
    folder.mkdir(exist_ok=True)
    arguments = [f"{key}={json.dumps(value)}" for key, value in options.items()]
    common = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": str(num_ranks)}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder), task, *arguments],
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(num_ranks)
    ]
    try:
        errors = [rank.communicate(timeout=240)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    return [(rank.returncode, error) for rank, error in zip(ranks, errors, strict=True)]


def train_to_the_end(folder, **options):
    results = start(folder, "train", **options)
    assert all(status == 0 for status, _ in results), results
    return torch.load(folder / "weights.pt", weights_only=True)


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_times(records):
    return [{tag: value for tag, value in record.items() if not tag.startswith("time/")} for record in records]


def assert_identical(ours, theirs):
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not different


@pytest.fixture(scope="module", params=[1, 2], ids=["1 rank", "2 ranks"])
def unbroken(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    return request.param, folder, train_to_the_end(folder, num_ranks=request.param)


def test_killed_run_ends_with_identical_weights_and_metrics(unbroken, tmp_path):
    num_ranks, folder, weights = unbroken
    killed = start(tmp_path, "train", num_ranks=num_ranks, kill_at=STEPS_PER_EPOCH + 2)
    assert all(status == -signal.SIGKILL for status, _ in killed), killed
    assert len(list((tmp_path / "checkpoints").glob("epoch-000001-*.pt"))) == 1
    assert_identical(train_to_the_end(tmp_path, num_ranks=num_ranks), weights)
    assert without_times(metrics(tmp_path)) == without_times(metrics(folder))


def test_training_lowers_the_loss_and_follows_the_schedule(unbroken):
    _, folder, _ = unbroken
    records = metrics(folder)
    assert [record["epoch"] for record in records] == [0, 1, 2, 3]
    assert records[-1]["train/loss"] < 0.9 * records[0]["train/loss"]
    assert records[-1]["train/loss"] == pytest.approx(records[-1]["train/loss_ce"])
    assert [record["optim/lr"] for record in records] == pytest.approx([0.05, 0.05, 0.0375, 0.0125])


def test_finished_run_started_again_changes_nothing(unbroken):
    num_ranks, folder, weights = unbroken
    before = (folder / "metrics.jsonl").read_text()
    assert_identical(train_to_the_end(folder, num_ranks=num_ranks), weights)
    assert (folder / "metrics.jsonl").read_text() == before


def test_number_of_ranks_does_not_change_the_result(tmp_path):
    one = train_to_the_end(tmp_path / "one", model="linear")
    two = train_to_the_end(tmp_path / "two", model="linear", num_ranks=2)
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(metrics(tmp_path / "one"), metrics(tmp_path / "two"), strict=True):
        assert ours["train/loss"] == pytest.approx(theirs["train/loss"], rel=1e-4)
        assert ours["train/accuracy(%)"] == theirs["train/accuracy(%)"]


def test_loss_that_is_not_finite_on_one_rank_stops_all_with_epoch_and_step(tmp_path):
    results = start(tmp_path, "train", num_ranks=2, model="linear", nan_at=STEPS_PER_EPOCH + 3, nan_rank=1)
    for status, error in results:
        assert status == 1
        assert "TrainingError: the loss is not finite at epoch 2 of 4, step 3 of 4" in error
        assert "checkpoint after epoch 1 is the last good one. Lower train.lr" in error
    assert len(metrics(tmp_path)) == 1


def test_evaluation_gives_identical_figures_on_any_number_of_ranks(tmp_path):
    for num_ranks in (1, 2, 3):
        results = start(tmp_path / str(num_ranks), "evaluate", num_ranks=num_ranks)
        assert all(status == 0 for status, _ in results), results
    alone, *shared = (json.loads(f.read_text()) for f in sorted(tmp_path.glob("*/evaluation-*.json")))
    assert len(shared) == 5
    assert alone["num_samples"] == 37
    assert 0 < alone["firing_rate"]["mean"] < 1
    assert "teacher_agreement" in alone
    assert alone["operations"]["synops"] > 0
    assert shared == [alone] * 5


def test_bf16_keeps_weights_in_float32_and_follows_float32(tmp_path):
    exact = run_training(tmp_path / "exact", World(), model="linear", epochs=2)
    rounded = run_training(tmp_path / "rounded", World(), model="linear", epochs=2, precision="bf16")
    assert {p.dtype for p in rounded.parameters()} == {torch.float32}
    assert not torch.equal(exact.layer.weight, rounded.layer.weight)
    torch.testing.assert_close(exact.layer.weight, rounded.layer.weight, rtol=0, atol=0.01)


def test_statistics_over_ranks_need_gpus(tmp_path):
    with pytest.raises(ConfigError, match=r"train\.sync_batchnorm.*need GPUs; set it to false"):
        run_training(tmp_path, World(rank=0, world_size=2), sync_batchnorm=True)


def test_checkpoint_of_another_run_stops_training(tmp_path):
    CheckpointFolder(tmp_path / "checkpoints", "another").save(1, {})
    with pytest.raises(TrainingError, match="is of run another, not of run"):
        run_training(tmp_path, World(), model="linear")
