"""The training loop: exact resumption, several ranks, losses that are not finite, saving memory. Ranks are processes."""

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest
import torch

from spikedistill.errors import ConfigError, TrainingError
from spikedistill.models import build_teacher
from spikedistill.neurons.lif import LIF
from spikedistill.train import engine
from spikedistill.train.blocks import checkpoint_blocks, compile_blocks, find_blocks
from spikedistill.train.checkpoint import CheckpointFolder
from spikedistill.train.distributed import World
from spikedistill.train.interrupt import Interrupted
from tests.unit.train.rank import STEPS, build, free_port, run_training

SCRIPT = Path(__file__).with_name("rank.py")
STEPS_PER_EPOCH = 4
KILLS = int(os.environ.get("KILLS", "4"))  # KILLS=20 is the full proof; few suffice for every change


def launch(folder, task, *, num_ranks=1, **options):
    folder.mkdir(exist_ok=True)
    arguments = [f"{key}={json.dumps(value)}" for key, value in options.items()]
    common = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": str(num_ranks)}
    return [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder), task, *arguments],
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(num_ranks)
    ]


def start(folder, task, **options):
    """Run all ranks until they exit; return (exit status, stderr) of each."""
    ranks = launch(folder, task, **options)
    try:
        errors = [rank.communicate(timeout=240)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    return [(rank.returncode, error) for rank, error in zip(ranks, errors, strict=True)]


def train_to_the_end(folder, **options):
    results = start(folder, "train", **options)
    assert all(status == 0 for status, _ in results), results
    return weights(folder)


def torture(folder, **options):
    """Ranks forked from one process that has imported everything, killed at random moments."""
    ((status, error),) = start(folder, "torture", **options)
    assert status == 0, error
    return weights(folder)


def weights(folder):
    return torch.load(folder / "weights.pt", weights_only=True)


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_times(records):
    return [{tag: value for tag, value in record.items() if not tag.startswith(("time/", "mem/"))} for record in records]


def assert_identical(ours, theirs):
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not different


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, run_training(folder, World()).state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("data", ["images", "frames"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_kills_at_random_moments_change_no_bit(tmp_path, ranks, data):
    given = {"ranks": ranks, "data": data, "method": "sealkd", "noise": True, "epochs": max(4, KILLS + KILLS // 4), "seed": ranks}
    expected = torture(tmp_path / "unbroken", kills=0, **given)
    assert_identical(torture(tmp_path / "killed", kills=KILLS, **given), expected)
    assert without_times(metrics(tmp_path / "killed")) == without_times(metrics(tmp_path / "unbroken"))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGUSR2"])
def test_signal_saves_in_mid_epoch_and_exits_with_its_number(unbroken, tmp_path, name):
    folder, expected = unbroken
    before = signal.getsignal(getattr(signal, name))
    with pytest.raises(Interrupted) as stopped:
        run_training(tmp_path, World(), at=STEPS_PER_EPOCH + 2, action=name)
    assert stopped.value.code == 128 + getattr(signal, name)
    assert signal.getsignal(getattr(signal, name)) == before
    newest = max((tmp_path / "checkpoints").iterdir()).name
    assert newest.startswith("epoch-000001-step-00000002-")
    assert_identical(run_training(tmp_path, World()).state_dict(), expected)
    assert without_times(metrics(tmp_path)) == without_times(metrics(folder))


def test_signal_in_the_last_step_of_an_epoch_stops_after_it(tmp_path):
    with pytest.raises(Interrupted):
        run_training(tmp_path, World(), model="linear", at=STEPS_PER_EPOCH, action="SIGTERM")
    assert max((tmp_path / "checkpoints").iterdir()).name.startswith("epoch-000001-step-00000000-")
    assert len(metrics(tmp_path)) == 1


@pytest.mark.slow
def test_signal_to_one_rank_stops_all_at_the_same_step(tmp_path):
    expected = train_to_the_end(tmp_path / "unbroken", num_ranks=2)
    results = start(tmp_path / "stopped", "train", num_ranks=2, at=STEPS_PER_EPOCH + 2, action="SIGTERM", at_rank=1, write_s=1.0)
    assert [status for status, _ in results] == [128 + signal.SIGTERM] * 2, results
    assert not any("Traceback" in error for _, error in results)
    assert all("left with epoch-000001-step-00000000" in e and " epoch-000001-step-00000003" in e for _, e in results), results
    newest = max((tmp_path / "stopped" / "checkpoints").iterdir()).name
    assert newest.startswith("epoch-000001-step-00000003-")  # the ranks agree while the next step computes
    assert_identical(train_to_the_end(tmp_path / "stopped", num_ranks=2), expected)


def test_an_interrupted_epoch_has_the_time_of_all_its_parts(tmp_path):
    with pytest.raises(Interrupted):
        run_training(tmp_path, World(), model="linear", epochs=2, at=2, action="SIGTERM", write_s=0.2)
    file = max((tmp_path / "checkpoints").iterdir())
    state = torch.load(file, weights_only=True)
    file.unlink()
    checkpoints = CheckpointFolder(tmp_path / "checkpoints", "run")
    checkpoints.save(state.pop("epoch"), state.pop("step"), state | {"seconds": state["seconds"] + 1000.0})
    run_training(tmp_path, World(), model="linear", epochs=2)
    first, second = metrics(tmp_path)
    assert first["time/epoch(s)"] > 1000 > second["time/epoch(s)"]
    assert first["time/throughput(samples/s)"] > 1, "of the part since it was resumed"


@pytest.mark.slow
def test_a_layer_that_the_loss_does_not_depend_on_is_told_on_one_rank_and_refused_on_two(tmp_path, caplog):
    run_training(tmp_path / "one", World(), model="unused", epochs=2)
    assert (
        "the loss does not depend on 2 parameters of the network, which stay as they are: spare.weight, spare.bias" in caplog.text
    )
    for status, error in start(tmp_path / "two", "train", num_ranks=2, model="unused"):
        assert status == 1
        assert "ConfigError: the loss does not depend on 2 parameters of the network: spare.weight, spare.bias" in error


def test_a_captured_step_is_freed_with_the_training(tmp_path, monkeypatch):
    """NCCL cannot end while a graph holds its operations; a cycle of references would keep it until some later collection."""
    made = []

    class Captured:
        def __init__(self, update, world, reseed):
            self.update, self.reseed = update, reseed
            made.append(weakref.ref(self))

        def __call__(self, batch):
            return self.update(batch)

    monkeypatch.setattr(engine, "GraphedUpdate", Captured)
    monkeypatch.setattr(engine, "can_capture", lambda optimizer: True)
    monkeypatch.setattr(engine, "_uses_graph", lambda run: True)
    monkeypatch.setattr(engine, "_stream", lambda run: contextlib.nullcontext())
    gc.disable()
    try:
        run_training(tmp_path, World(), model="linear", epochs=2)
        assert [each() for each in made] == [None]
    finally:
        gc.enable()


def test_training_lowers_the_loss_and_follows_the_schedule(unbroken):
    folder, _ = unbroken
    records = metrics(folder)
    assert [record["epoch"] for record in records] == [0, 1, 2, 3]
    assert records[-1]["train/loss"] < 0.9 * records[0]["train/loss"]
    assert records[-1]["train/loss"] == pytest.approx(records[-1]["train/loss_ce"])
    assert [record["optim/lr"] for record in records] == pytest.approx([0.05, 0.05, 0.0375, 0.0125])


def test_every_epoch_records_gradient_norm_memory_data_and_firing_rates(unbroken):
    folder, _ = unbroken
    for record in metrics(folder):
        assert record["optim/grad_norm"] > 0
        assert 0 < record["mem/peak(GiB)"] < 64
        assert 0 < record["time/data(%)"] < 100
        assert record["time/throughput(samples/s)"] == pytest.approx(8 * STEPS_PER_EPOCH / record["time/epoch(s)"])
        rates = [value for tag, value in record.items() if tag.startswith("spike/rate_")]
        assert len(rates) == 7
        assert 0 < min(rates) <= record["spike/rate"] <= max(rates) < 1


def test_finished_run_started_again_changes_nothing(tmp_path):
    expected = run_training(tmp_path, World(), model="linear").state_dict()
    before = (tmp_path / "metrics.jsonl").read_text()
    assert_identical(run_training(tmp_path, World(), model="linear").state_dict(), expected)
    assert (tmp_path / "metrics.jsonl").read_text() == before


CHUNKED = {"chunked_shuffle": {"block": 2, "window": 16}}


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_kills_change_no_bit_of_a_run_that_is_shuffled_in_chunks_and_read_ahead(tmp_path, ranks):
    given = {"ranks": ranks, "epochs": max(4, KILLS + KILLS // 4), "seed": ranks, "recipe": CHUNKED}
    assert_identical(
        torture(tmp_path / "killed", kills=KILLS, streamed=True, **given),
        torture(tmp_path / "unbroken", **given),
    )


@pytest.mark.slow
@pytest.mark.parametrize("order", [{}, {"recipe": CHUNKED, "streamed": True}], ids=["full", "chunked"])
def test_number_of_ranks_changes_nothing_with_statistics_over_all(tmp_path, order):
    given = {"kills": 0, "seed": 0, "model": "normalised", "double": True, "sync_batchnorm": True, **order}
    one = torture(tmp_path / "1", ranks=1, **given)
    for ranks in (2, 4):
        folder = tmp_path / str(ranks)
        several = torture(folder, ranks=ranks, **given)
        for name in one:
            torch.testing.assert_close(several[name], one[name], rtol=1e-9, atol=1e-12)
        for ours, theirs in zip(metrics(folder), metrics(tmp_path / "1"), strict=True):
            assert ours["train/loss"] == pytest.approx(theirs["train/loss"], rel=1e-10)
            assert ours["optim/grad_norm"] == pytest.approx(theirs["optim/grad_norm"], rel=1e-9)
            assert ours["train/accuracy(%)"] == theirs["train/accuracy(%)"]


METHODS = {
    "logits": {"method": "sealkd"},
    "features and noise": {"method": "ckdsnn", "params": {"samd_variant": "per_sample", "nld_variant": "paper_attached"}},
    "exits": {"method": "esd", "params": {"beta": 0}},  # beta: a mean over a subset of each rank's own samples
    "rate": {"method": "kd", "params": {"logits": "mean"}, "backward": "rate"},
    "features and noise at a rate": {"method": "ckdsnn", "params": {"samd_variant": "per_sample"}, "backward": "rate"},
    "exits at a rate of frames": {"method": "esd", "params": {"beta": 0}, "backward": "rate", "data": "frames"},
}


@pytest.mark.slow
def test_two_ranks_train_every_kind_of_method_like_one(tmp_path):
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        (folder / "cases.json").write_text(json.dumps(METHODS))
        results = start(folder, "torture", ranks=ranks, rank_task="cases", epochs=2, double=True, sync_batchnorm=True)
        assert results[0][0] == 0, results
    for name in METHODS:
        one, two = (weights(tmp_path / ranks / name) for ranks in "12")
        assert one.keys() == two.keys()
        for key in one:
            torch.testing.assert_close(two[key], one[key], rtol=1e-8, atol=1e-11, msg=lambda m, k=key, n=name: f"{n}: {k}: {m}")
        losses = [[record["train/loss"] for record in metrics(tmp_path / ranks / name)] for ranks in "12"]
        assert losses[0] == pytest.approx(losses[1], rel=1e-10), name
        assert losses[0][1] != losses[0][0]


@pytest.mark.slow
def test_loss_that_is_not_finite_on_one_rank_stops_all_with_epoch_and_step(tmp_path):
    results = start(tmp_path, "train", num_ranks=2, model="linear", at=STEPS_PER_EPOCH + 3, action="nan", at_rank=1)
    for status, error in results:
        assert status == 1
        assert "TrainingError: the loss or its gradient is not finite at epoch 2 of 4, step 3 of 4" in error
        assert "last good: the checkpoint after epoch 1. Lower train.lr" in error
    assert len(metrics(tmp_path)) == 1


def test_state_after_a_loss_that_is_not_finite_is_never_saved(tmp_path):
    with pytest.raises(TrainingError, match=r"epoch 2 of 4, step 2 of 4; last good: the checkpoint after epoch 1 and 1 steps"):
        run_training(tmp_path, World(), model="linear", checkpoint_minutes=0, at=STEPS_PER_EPOCH + 2, action="nan")
    newest = max((tmp_path / "checkpoints").iterdir()).name
    assert newest.startswith("epoch-000001-step-00000001-")


@pytest.mark.slow
def test_rank_that_ends_is_noticed_at_once(tmp_path):
    started = time.monotonic()
    (status, error), (killed, _) = start(
        tmp_path, "train", num_ranks=2, model="linear", at=6, action="SIGKILL", at_rank=1, timeout_s=600
    )
    assert killed == -signal.SIGKILL
    assert status == 1
    assert "TrainingError: rank 0 of 2 lost contact with another rank" in error
    assert "Traceback" not in error
    assert time.monotonic() - started < 500  # not only after the timeout, however slow the machine


def test_rank_that_ends_in_an_evaluation_is_explained(tmp_path):
    (status, error), (killed, _) = start(tmp_path, "evaluate", num_ranks=2, killed_rank=1)
    assert (status, killed) == (1, -signal.SIGKILL)
    assert "TrainingError: rank 0 of 2 lost contact with another rank" in error
    assert "Traceback" not in error


@pytest.mark.slow
def test_rank_that_does_not_answer_is_noticed_within_the_set_time(tmp_path):
    main, silent = launch(tmp_path, "train", num_ranks=2, model="linear", at=6, action="SIGSTOP", at_rank=1, timeout_s=4)
    try:
        _, error = main.communicate(timeout=500)
    finally:
        silent.kill()
        silent.communicate()
    assert main.returncode == 1
    assert "TrainingError: rank 0 of 2 lost contact with another rank" in error


def test_ranks_that_do_not_meet_report_address_and_timeout(tmp_path, monkeypatch):
    import datetime

    port = free_port()
    for name, value in {"RANK": 1, "LOCAL_RANK": 1, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, str(value))
    with (
        pytest.raises(TrainingError, match=rf"2 ranks did not meet at 127\.0\.0\.1:{port} within 1 s"),
        World.from_environment(datetime.timedelta(seconds=1)),
    ):
        pass


@pytest.mark.slow
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
    assert len(alone["predictions"]["prediction"]) == 37
    assert alone["robustness"][0]["nll"] != alone["robustness"][1]["nll"]
    assert shared == [alone] * 5


def test_bf16_keeps_weights_in_float32_and_follows_float32(tmp_path):
    exact = run_training(tmp_path / "exact", World(), model="linear", epochs=2)
    rounded = run_training(tmp_path / "rounded", World(), model="linear", epochs=2, precision="bf16")
    assert {p.dtype for p in rounded.parameters()} == {torch.float32}
    assert not torch.equal(exact.layer.weight, rounded.layer.weight)
    torch.testing.assert_close(exact.layer.weight, rounded.layer.weight, rtol=0, atol=0.01)


def test_gradient_accumulation_gives_the_gradient_of_the_whole_batch(tmp_path):
    whole = run_training(tmp_path / "whole", World(), model="linear", double=True)
    parts = run_training(tmp_path / "parts", World(), model="linear", double=True, accumulate=4)
    torch.testing.assert_close(parts.layer.weight, whole.layer.weight, rtol=1e-10, atol=1e-12)
    for ours, theirs in zip(metrics(tmp_path / "parts"), metrics(tmp_path / "whole"), strict=True):
        assert ours["train/loss"] == pytest.approx(theirs["train/loss"], rel=1e-10)
        assert ours["train/accuracy(%)"] == theirs["train/accuracy(%)"]


def test_frames_are_split_along_the_batch(tmp_path):
    network = run_training(tmp_path, World(), data="frames", epochs=2, accumulate=2)
    assert network.time_steps == STEPS
    assert len(metrics(tmp_path)) == 2


def test_activation_checkpointing_changes_no_bit(unbroken, tmp_path):
    _, expected = unbroken
    assert_identical(run_training(tmp_path, World(), checkpoint_activations=True).state_dict(), expected)


def test_compiled_neurons_train_alike(unbroken, tmp_path):
    folder, _ = unbroken
    network = run_training(tmp_path, World(), compile=True)
    assert all(module.compiled for module in network.modules() if isinstance(module, LIF))
    for ours, theirs in zip(metrics(tmp_path), metrics(folder), strict=True):
        assert ours["train/loss"] == pytest.approx(theirs["train/loss"], rel=1e-3)


def test_compiled_blocks_compute_alike():
    plain, compiled = build("normalised").double(), build("normalised").double()
    compile_blocks(compiled)
    x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for network in (plain, compiled):
        network(x).logits.square().sum().backward()
    for ours, theirs in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)


def test_compiling_without_a_compiler_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"engine\.compile: needs one of g\+\+, clang\+\+"):
        run_training(tmp_path, World(), model="linear", compile=True)


def test_blocks_of_a_residual_network_are_its_residual_blocks_and_the_stem():
    blocks = find_blocks(build("student"))
    assert [type(block).__name__ for block in blocks] == ["Sequential"] + ["BasicBlock"] * 3
    inside = [module for block in blocks for module in block.modules() if isinstance(module, LIF)]
    assert len(inside) == 7


def test_activation_checkpointing_runs_every_block_of_a_plain_network_twice():
    teacher = build_teacher("vgg13", num_classes=3, in_channels=1)
    runs = dict.fromkeys(find_blocks(teacher), 0)
    assert len(runs) == 6

    def count(block):
        runs[block] += 1

    for block in runs:
        block[0].register_forward_hook(lambda layer, x, out, block=block: count(block))
    checkpoint_blocks(teacher)
    teacher(torch.rand(2, 1, 16, 16)).logits.sum().backward()
    assert set(runs.values()) == {2}


def test_batch_that_ranks_cannot_share_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"train\.batch_size 8 cannot be shared equally by 3 ranks"):
        run_training(tmp_path, World(rank=0, world_size=3))


def test_batch_that_cannot_be_split_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"engine\.accumulate 3 does not divide the 8 samples .* of train\.batch_size 8"):
        run_training(tmp_path, World(), accumulate=3)


def test_checkpoint_of_another_run_stops_training(tmp_path):
    CheckpointFolder(tmp_path / "checkpoints", "another").save(1, 0, {})
    with pytest.raises(TrainingError, match="belongs to run another, not to run"):
        run_training(tmp_path, World(), model="linear")


def test_checkpoint_of_another_network_stops_training(tmp_path):
    run_training(tmp_path, World(), model="linear", epochs=2)
    with pytest.raises(TrainingError, match="does not fit this network and its optimizer; move it away"):
        run_training(tmp_path, World(), model="normalised")
