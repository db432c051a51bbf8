"""Recipes of today in the engine: exact resumption, the same on any number of ranks, what each key does."""

import math
import os

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from spikedistill.data.loading.loader import Loader
from spikedistill.models import ModelOutput
from spikedistill.train.averaging import Average
from spikedistill.train.distributed import World
from spikedistill.train.interrupt import Interrupted
from spikedistill.train.objective import Batch
from spikedistill.train.validation import validate
from tests.unit.train.rank import build, run_training, store
from tests.unit.train.test_engine import assert_identical, metrics, torture, train_to_the_end, without_times

KILLS = int(os.environ.get("KILLS", "4"))
EVERYTHING = {
    "optimizer": {"name": "adamw"},
    "lr": 0.002,
    "schedule": {"per": "step"},
    "clip_grad_norm": 0.5,
    "label_smoothing": 0.1,
    "mixup": 0.4,
    "cutmix": 1.0,
    "mix_probability": 0.9,
    "ema": 0.9,
    "select": "best",
}


def trained(folder, **options):
    return run_training(folder, World(), **{"model": "linear", "double": True} | options)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_kills_at_random_moments_change_no_bit_of_any_recipe(tmp_path, ranks):
    given = {"ranks": ranks, "method": "tdd", "epochs": max(4, KILLS + KILLS // 4), "seed": ranks, "recipe": EVERYTHING}
    given["validation"] = True
    expected = torture(tmp_path / "unbroken", kills=0, **given)
    assert_identical(torture(tmp_path / "killed", kills=KILLS, **given), expected)
    assert without_times(metrics(tmp_path / "killed")) == without_times(metrics(tmp_path / "unbroken"))


def test_a_run_that_is_stopped_within_an_epoch_resumes_exactly(tmp_path):
    given = {"method": "sealkd", "recipe": EVERYTHING, "validation": True}
    expected = run_training(tmp_path / "unbroken", World(), **given).state_dict()
    with pytest.raises(Interrupted):
        run_training(tmp_path / "stopped", World(), at=6, action="SIGTERM", **given)
    assert_identical(run_training(tmp_path / "stopped", World(), **given).state_dict(), expected)
    assert without_times(metrics(tmp_path / "stopped")) == without_times(metrics(tmp_path / "unbroken"))


@pytest.mark.slow
def test_two_ranks_and_accumulation_give_what_one_rank_gives(tmp_path):
    recipe = {key: value for key, value in EVERYTHING.items() if key != "select"}
    given = {"model": "linear", "double": True, "recipe": recipe, "validation": True}
    alone = train_to_the_end(tmp_path / "one", **given)
    for name, options in {"two": {"num_ranks": 2}, "four parts": {"num_ranks": 2, "accumulate": 2}}.items():
        shared = train_to_the_end(tmp_path / name, **given, **options)
        for key, value in alone.items():
            torch.testing.assert_close(shared[key], value, rtol=1e-8, atol=1e-10)
        for ours, theirs in zip(metrics(tmp_path / name), metrics(tmp_path / "one"), strict=True):
            for tag in ("train/loss", "optim/grad_norm", "validation/loss", "train/accuracy(%)"):
                assert ours[tag] == pytest.approx(theirs[tag], rel=1e-7), tag


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [{}, {"ema": 0.9}])
def test_on_two_ranks_the_validated_network_is_the_kept_one(tmp_path, recipe):
    options = {"model": "normalised", "validation": True, "recipe": recipe}
    network = build("normalised")
    network.load_state_dict(train_to_the_end(tmp_path, num_ranks=2, **options))
    alone = validate(network, Loader(store(), "test", batch_size=8), World())
    assert metrics(tmp_path)[-1]["validation/loss"] == pytest.approx(alone["validation/loss"], rel=1e-6)


def test_a_gradient_within_the_limit_is_not_clipped(tmp_path):
    plain = trained(tmp_path / "plain")
    assert_identical(trained(tmp_path / "clipped", recipe={"clip_grad_norm": 1e6}).state_dict(), plain.state_dict())


def test_clipping_shortens_the_step_and_the_norm_before_it_is_recorded(tmp_path):
    limit, lr = 1e-3, 0.05
    recipe = {"clip_grad_norm": limit, "momentum": 0.0, "weight_decay": 0.0, "schedule": {"name": "constant"}, "warmup_epochs": 0}
    start = run_training(tmp_path / "start", World(), model="linear", double=True, epochs=1, recipe={**recipe, "lr": 1e-30})
    end = run_training(tmp_path / "end", World(), model="linear", double=True, epochs=1, recipe={**recipe, "lr": lr})
    moved = torch.cat([(a - b).flatten() for a, b in zip(end.parameters(), start.parameters(), strict=True)]).norm().item()
    steps = 4
    assert 0 < moved <= steps * lr * limit * (1 + 1e-9)
    assert metrics(tmp_path / "end")[0]["optim/grad_norm"] > 100 * limit


def test_averaged_weights_are_kept_and_are_those_of_the_steps(tmp_path):
    recipe = {"warmup_epochs": 0, "schedule": {"name": "constant"}, "momentum": 0.0}
    seen = []

    def remember(optimizer, args, kwargs):
        seen.append([p.detach().clone() for group in optimizer.param_groups for p in group["params"]])

    hook = register_optimizer_step_post_hook(remember)
    try:
        network = trained(tmp_path, epochs=1, recipe={**recipe, "ema": 0.75})
    finally:
        hook.remove()
    expected = seen[0]
    for weights in seen[1:]:
        expected = [0.75 * old + 0.25 * new for old, new in zip(expected, weights, strict=True)]
    by_shape = {value.shape: value for value in expected}
    for parameter in network.parameters():
        torch.testing.assert_close(parameter.detach(), by_shape[parameter.shape], rtol=1e-12, atol=1e-14)


def test_averaged_weights_have_averaged_statistics_and_are_what_is_validated(tmp_path):
    given = {"model": "normalised", "validation": True, "epochs": 2}
    plain = run_training(tmp_path / "plain", World(), **given)
    averaged = run_training(tmp_path / "averaged", World(), **given, recipe={"ema": 0.9})
    norm, averaged_norm = plain.layers[1], averaged.layers[1]
    assert not torch.equal(norm.running_mean, averaged_norm.running_mean)
    assert [record["train/loss"] for record in metrics(tmp_path / "plain")] == [
        record["train/loss"] for record in metrics(tmp_path / "averaged")
    ]
    assert metrics(tmp_path / "plain")[-1]["validation/loss"] != metrics(tmp_path / "averaged")[-1]["validation/loss"]


@pytest.mark.parametrize(("per", "progress"), [("epoch", 1 / 2), ("step", 7 / 8)])
def test_the_rate_is_set_at_each_step_or_each_epoch(tmp_path, per, progress):
    trained(tmp_path, epochs=2, recipe={"warmup_epochs": 0, "schedule": {"per": per}})
    (_, second) = metrics(tmp_path)
    assert second["optim/lr"] == pytest.approx(0.05 * 0.5 * (1 + math.cos(math.pi * progress)))


def test_labels_of_both_samples_count_by_their_shares():
    logits = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0))
    labels, partners = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 0, 1, 2])
    batch = Batch(torch.zeros(4, 1, 2, 2), labels, 0, 0, 0, 4, partners, 0.3)

    def loss(y):
        return {"ce": torch.nn.functional.cross_entropy(logits[0], y)}

    target = 0.3 * torch.nn.functional.one_hot(labels, 3) + 0.7 * torch.nn.functional.one_hot(partners, 3)
    expected = torch.nn.functional.cross_entropy(logits[0], target)
    torch.testing.assert_close(batch.over_labels(loss)["ce"], expected)
    right = [
        float(logits[0, i].argmax() == labels[i]) * 0.3 + float(logits[0, i].argmax() == partners[i]) * 0.7 for i in range(4)
    ]
    assert batch.accuracy(ModelOutput(logits, logits)).item() == pytest.approx(sum(right) / 4)


def test_statistics_are_averaged_and_counters_are_those_of_the_network():
    norm = torch.nn.BatchNorm1d(3)
    average = Average(norm, 0.75)
    for step in range(1, 4):
        norm.running_mean.fill_(step)
        norm.num_batches_tracked.fill_(step)
        average.update(norm)
    assert average.network.running_mean.tolist() == pytest.approx([0.75 * (0.75 * 1 + 0.25 * 2) + 0.25 * 3] * 3)
    assert average.network.num_batches_tracked == 3
