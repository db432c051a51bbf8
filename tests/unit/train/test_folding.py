"""Teachers whose batch normalisations are folded into convolutions give the same outputs."""

import pytest
import torch
from torch import nn

from spikedistill.models import build_teacher
from spikedistill.train.network.folding import fold_batch_norms


def teacher(arch):
    torch.manual_seed(0)
    built = build_teacher(arch, num_classes=10, in_channels=3).eval().requires_grad_(False).double()
    for norm in norms_of(built):
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 2)
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.normal_(0, 0.1)
    return built


def norms_of(module):
    return [each for each in module.modules() if isinstance(each, nn.BatchNorm2d)]


@pytest.mark.parametrize(
    "arch", ["resnet8", "resnet20_ckd_teacher", "preact_resnet18", "vggsnn", "torchvision/resnet18", "torchvision/densenet121"]
)
def test_every_output_stays_as_it_was(arch):
    network = teacher(arch)
    x = torch.randn(2, 3, 48, 48, dtype=torch.float64)
    before, norms = network(x, returns_stages=True), len(norms_of(network))
    folded = fold_batch_norms(network)
    after = network(x, returns_stages=True)
    assert 0 < folded == norms - len(norms_of(network))
    for found, expected in zip((after.logits, *after.stages), (before.logits, *before.stages), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("arch", ["resnet8", "resnet20_ckd_teacher", "torchvision/resnet18"])
def test_none_is_left_behind_a_convolution(arch):
    network = teacher(arch)
    fold_batch_norms(network)
    assert not norms_of(network)
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_layer_that_is_used_twice_stays_apart():
    network = teacher("resnet8")
    block = network.network.stages[1][0]
    block.body[4] = block.body[1]  # two convolutions, one normalisation
    expected = network(torch.ones(1, 3, 16, 16, dtype=torch.float64)).logits
    fold_batch_norms(network)
    assert norms_of(network) == [block.body[1]]
    torch.testing.assert_close(network(torch.ones(1, 3, 16, 16, dtype=torch.float64)).logits, expected)


def test_a_network_that_cannot_be_traced_stays_as_it_is():
    network = teacher("resnet8")
    network.network.after_stem.append(Deciding())
    assert fold_batch_norms(network) == 0
    assert norms_of(network)


class Deciding(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x
