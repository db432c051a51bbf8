"""One update of the weights, on a network of one weight."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from spikedistill.errors import ConfigError
from spikedistill.models import ModelOutput
from spikedistill.train.averaging import Average
from spikedistill.train.objective import Batch
from spikedistill.train.settings import TrainConfig
from spikedistill.train.step.update import Update

INPUTS = torch.tensor([[1.0, 0.0], [2.0, 1.0], [3.0, 0.0], [6.0, 3.0]]).reshape(4, 1, 1, 2)  # means 3 and 1
GRADIENT = 3.0 + 2 * 1.0


class Scaled(nn.Module):
    """Logits are a weight times the inputs."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return ModelOutput((self.weight * x.flatten(1))[None], x)


class Objective:
    """The mean of the first logit plus twice that of the second; keeps what it was given."""

    def __init__(self):
        self.seen = []

    def __call__(self, outputs, batch):
        self.seen.append((outputs.logits.dtype, batch.first, len(batch.labels)))
        return {"one": outputs.logits[..., 0].mean(), "two": 2 * outputs.logits[..., 1].mean()}


def batch():
    return Batch(INPUTS, torch.tensor([0, 0, 1, 0]), epoch=0, step=0, first=0, global_size=4)


def update_of(model, objective=None, *, accumulate=1, average=None, replica=None, **config):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    settings = TrainConfig(epochs=1, batch_size=4, **config)
    return Update(model, replica or model, objective or Objective(), optimizer, average, settings, accumulate)


def numbers(metrics):
    return {name: value.item() for name, value in metrics.items()}


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_updates_follow_the_gradient_of_the_sum_of_the_terms_over_the_whole_batch(accumulate):
    model = Scaled()
    update = update_of(model, accumulate=accumulate)
    found = numbers(update(batch()))
    assert found == pytest.approx({"loss": 5.0, "loss_one": 3.0, "loss_two": 2.0, "accuracy": 0.75, "grad_norm": GRADIENT})
    assert model.weight.item() == pytest.approx(1 - 0.1 * GRADIENT)
    update(batch())
    assert model.weight.item() == pytest.approx(1 - 0.2 * GRADIENT, abs=1e-6)


def test_parts_are_in_order_and_know_their_place():
    objective = Objective()
    update_of(Scaled(), objective, accumulate=2)(batch())
    assert [place for _, *place in objective.seen] == [[0, 2], [2, 2]]


def test_a_gradient_beyond_the_largest_norm_is_scaled_down_before_the_step_and_its_norm_told():
    model = Scaled()
    assert update_of(model, clip_grad_norm=2.0)(batch())["grad_norm"].item() == pytest.approx(GRADIENT)
    assert model.weight.item() == pytest.approx(1 - 0.1 * 2.0, rel=1e-5)


def test_the_average_takes_in_the_weights_after_the_step():
    model = Scaled()
    average = Average(model, 0.5)
    update_of(model, average=average)(batch())
    assert average.network.weight.item() == model.weight.item() != 1.0


class Multiplied(Scaled):
    """The same logits by a matrix product, which autocast computes in half precision; keeps the dtype of what it returned."""

    def forward(self, x):
        logits = x.flatten(1) @ (self.weight * torch.eye(2))
        self.returned = logits.dtype
        return ModelOutput(logits[None], x)


@pytest.mark.parametrize(("precision", "expected"), [("float32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_network_runs_in_the_precision_of_the_recipe_and_the_loss_in_float32(precision, expected):
    model, objective = Multiplied(), Objective()
    update_of(model, objective, precision=precision)(batch())
    assert (model.returned, objective.seen[0][0]) == (expected, torch.float32)


def test_ranks_average_the_gradient_with_the_last_part():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model, synchronised = Scaled(), []
        replica = DistributedDataParallel(model)
        replica.register_forward_pre_hook(lambda module, inputs: synchronised.append(module.require_backward_grad_sync))
        update_of(model, replica=replica, accumulate=4)(batch())
    finally:
        dist.destroy_process_group()
    assert synchronised == [False, False, False, True]
    assert model.weight.item() == pytest.approx(1 - 0.1 * GRADIENT)


def test_a_part_that_is_too_small_for_batch_statistics_is_told():
    class Normalised(Scaled):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(2)

        def forward(self, x):
            return super().forward(self.norm(x.reshape(-1, 2, 1, 1)))

    update_of(Normalised())(batch())
    with pytest.raises(ConfigError, match=r"one value per channel.*engine\.accumulate"):
        update_of(Normalised(), accumulate=4)(batch())
