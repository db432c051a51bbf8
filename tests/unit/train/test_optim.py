"""Parameter groups, schedule and settings of a recipe."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from spikedistill.models import build_student
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.train.optim import LearningRate, build_optimizer, set_learning_rate
from spikedistill.train.schedules import step
from spikedistill.train.settings import TrainConfig

GOLDEN = Path(__file__).parents[2] / "golden"


def recipe(**given):
    return TrainConfig(**{"epochs": 10, "batch_size": 8} | given)


def sizes(optimizer):
    return [(group["weight_decay"], sum(p.numel() for p in group["params"])) for group in optimizer.param_groups]


def test_weights_decay_and_norms_and_biases_do_not():
    cases = json.loads((GOLDEN / "model_params.json").read_text())["cases"]
    case = next(c for c in cases if (c["net"], c["kind"], c["num_classes"]) == ("resnet18", "snn", 100))
    with torch.device("meta"):
        model = build_student("resnet18", num_classes=100, in_channels=3, time_steps=1, neuron=NeuronConfig())
    optimizer = build_optimizer(model, recipe(weight_decay=5e-4))
    assert sizes(optimizer) == [(5e-4, case["weight_decayed_params"]), (0.0, case["undecayed_params"])]


def test_everything_decays_when_asked():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    assert sizes(build_optimizer(model, recipe(weight_decay_on="all", weight_decay=0.1))) == [(0.1, 6 + 2 + 2 + 2)]


def test_frozen_parameters_are_left_out():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    model[0].requires_grad_(False)
    assert [n for _, n in sizes(build_optimizer(model, recipe()))] == [4, 2]


def test_cosine_from_the_peak():
    rates = [LearningRate(recipe(epochs=4, lr=0.2), 1).at(epoch, 0) for epoch in range(4)]
    assert rates == pytest.approx([0.2, 0.1 * (1 + 0.5**0.5), 0.1, 0.1 * (1 - 0.5**0.5)])


def test_warmup_rises_to_the_peak_and_then_falls():
    rates = [LearningRate(recipe(epochs=6, lr=0.4, warmup_epochs=2), 1).at(epoch, 0) for epoch in range(6)]
    assert rates == pytest.approx([0.2, 0.4, 0.4, 0.2 * (1 + 0.5**0.5), 0.2, 0.2 * (1 - 0.5**0.5)])


def rates(epochs, *, steps=1, **given):
    rate = LearningRate(recipe(epochs=epochs, lr=1.0, **given), steps)
    return [rate.at(epoch, step) for epoch in range(epochs) for step in range(steps)]


def test_the_cosine_may_end_above_zero():
    found = rates(4, schedule={"params": {"minimum": 0.5}})
    assert found == pytest.approx([1.0, 0.75 + 0.25 * 0.5**0.5, 0.75, 0.75 - 0.25 * 0.5**0.5])


def test_steps_multiply_at_the_milestones_of_the_whole_run():
    schedule = {"name": "step", "params": {"milestones": [2, 3], "gamma": 0.5}}
    assert rates(5, schedule=schedule, warmup_epochs=1) == pytest.approx([1.0, 1.0, 0.5, 0.25, 0.25])
    assert rates(8, schedule={"name": "step"}) == pytest.approx([1.0] * 4 + [0.1] * 2 + [0.01] * 2)


def test_steps_are_by_default_after_half_and_three_quarters():
    assert rates(12, schedule={"name": "step"}) == pytest.approx([1.0] * 6 + [0.1] * 3 + [0.01] * 3)


def test_a_milestone_at_the_end_is_refused_for_it_is_never_reached():
    assert [key for key, _ in step.problems(step.Params(milestones=(3, 5)), 5)] == ["milestones"]
    assert list(step.problems(step.Params(milestones=(3, 4)), 5)) == []


def test_a_constant_rate_follows_warm_up():
    assert rates(4, schedule={"name": "constant"}, warmup_epochs=2) == [0.5, 1.0, 1.0, 1.0]


def test_per_step_warm_up_and_schedule_move_at_each_step():
    found = rates(3, steps=2, schedule={"per": "step"}, warmup_epochs=1)
    assert found == pytest.approx([0.5, 1.0, 1.0, 0.5 + 0.5 * 0.5**0.5, 0.5, 0.5 - 0.5 * 0.5**0.5])


def test_per_epoch_all_steps_of_an_epoch_share_a_rate():
    assert rates(3, steps=2, warmup_epochs=1) == [each for each in rates(3, warmup_epochs=1) for _ in range(2)]


@pytest.mark.parametrize("schedule", ["cosine", "constant", "step"])
def test_schedules_of_one_per_step_and_epoch_agree_at_the_start_of_epochs(schedule):
    by_step = rates(8, steps=3, schedule={"name": schedule, "per": "step"})
    assert by_step[::3] == pytest.approx(rates(8, schedule={"name": schedule}))


def test_adamw_decays_apart_from_the_gradient():
    model = torch.nn.Linear(1, 1)
    torch.nn.init.ones_(model.weight)
    torch.nn.init.ones_(model.bias)
    optimizer = build_optimizer(model, recipe(lr=0.1, weight_decay=0.2, optimizer={"name": "adamw"}))
    model.weight.grad, model.bias.grad = torch.ones(1, 1), torch.ones(1)
    optimizer.step()
    assert isinstance(optimizer, torch.optim.AdamW)
    # the first step has the size of lr; the weight shrinks by lr * weight_decay before it
    assert model.weight.item() == pytest.approx(1 - 0.1 * 0.2 - 0.1)
    assert model.bias.item() == pytest.approx(1 - 0.1)


def test_betas_eps_and_amsgrad_reach_adamw():
    params = {"betas": [0.8, 0.95], "eps": 1e-3, "amsgrad": True}
    optimizer = build_optimizer(torch.nn.Linear(3, 2), recipe(optimizer={"name": "adamw", "params": params}))
    found = [(group["betas"], group["eps"], group["amsgrad"]) for group in optimizer.param_groups]
    assert found == [((0.8, 0.95), 1e-3, True)] * 2


def test_nesterov_and_momentum_reach_sgd():
    optimizer = build_optimizer(torch.nn.Linear(3, 2), recipe(momentum=0.8, optimizer={"params": {"nesterov": True}}))
    assert [(group["momentum"], group["nesterov"]) for group in optimizer.param_groups] == [(0.8, True)] * 2


def test_rate_is_set_in_every_group():
    optimizer = build_optimizer(torch.nn.Linear(3, 2), recipe())
    set_learning_rate(optimizer, 0.03)
    assert [group["lr"] for group in optimizer.param_groups] == [0.03, 0.03]


def test_a_learning_rate_is_a_plain_number_whatever_a_schedule_computes_with(monkeypatch):
    config = TrainConfig(epochs=2, batch_size=1, lr=0.5)
    monkeypatch.setattr(config.schedule.component, "factor", lambda position, params: np.float64(0.25))
    found = LearningRate(config, 1).at(0, 0)
    assert (type(found), found) == (float, 0.125)


def test_a_step_is_sgd_with_momentum_and_decay():
    model = torch.nn.Linear(1, 1)
    torch.nn.init.ones_(model.weight)
    torch.nn.init.ones_(model.bias)
    optimizer = build_optimizer(model, recipe(lr=0.1, momentum=0.5, weight_decay=0.2))
    for _ in range(2):
        model.weight.grad, model.bias.grad = torch.ones(1, 1), torch.ones(1)
        optimizer.step()
    # weight: v = 1.2, w = 0.88; v = 0.6 + 1 + 0.176 = 1.776, w = 0.7024. bias: v = 1, 1.5.
    assert model.weight.item() == pytest.approx(0.7024)
    assert model.bias.item() == pytest.approx(1 - 0.1 - 0.15)


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"batch_size": 0}, {"lr": 0.0}, {"momentum": 1.0}, {"precision": "fp16"}, {"learning_rate": 0.1}],
)
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        recipe(**wrong)


def test_warmup_must_end_before_training():
    with pytest.raises(ValidationError, match="warmup_epochs 10 must be below epochs 10"):
        recipe(warmup_epochs=10)


def test_groups_of_a_plug_in_keep_their_multiples_of_the_rate(monkeypatch):
    def build(groups, lr, params):
        return torch.optim.SGD([{**groups[0], "lr": 10 * lr}, *groups[1:]], lr=lr)

    config, model = recipe(lr=0.25), torch.nn.Linear(3, 2)
    monkeypatch.setattr(config.optimizer.component, "build", build)
    optimizer = build_optimizer(model, config)
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [5.0, 0.5]
    resumed = build_optimizer(model, config)
    resumed.load_state_dict(optimizer.state_dict())
    set_learning_rate(resumed, 0.125)
    assert [group["lr"] for group in resumed.param_groups] == [1.25, 0.125]
