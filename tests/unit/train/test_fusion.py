"""Where batch normalisation and neurons are fused, and that nothing changes where the kernels cannot run."""

import copy

import pytest
import torch
from torch import nn

from spikedistill.models import build_student
from spikedistill.models.resnet import BasicBlock
from spikedistill.neurons.firing import firing_rates
from spikedistill.neurons.lif import LIF
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.train.blocks import compile_blocks, find_blocks
from spikedistill.train.network.fusion import fuse_normalisation


def neurons():
    return LIF(NeuronConfig(), 2)


def fused_neurons(module):
    return [name for name, part in module.named_modules() if isinstance(part, LIF) and "forward" in vars(part)]


@pytest.mark.parametrize("backward", ["bptt", "rate"])
def test_a_cpu_computes_the_same_bits(backward):
    torch.manual_seed(0)
    plain = build_student("resnet8", num_classes=10, in_channels=3, time_steps=2, neuron=NeuronConfig(), backward=backward)
    fused = copy.deepcopy(plain)
    fuse_normalisation(fused)
    assert len(fused_neurons(fused)) == (7 if backward == "bptt" else 0)
    x = torch.randn(2, 3, 8, 8)
    for network in (plain, fused):
        network(x).logits.square().sum().backward()
    assert list(plain.state_dict()) == list(fused.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), fused.state_dict().values(), strict=True))
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(plain.parameters(), fused.parameters(), strict=True))
    assert firing_rates(plain, x) == firing_rates(fused, x)


def test_a_copy_of_a_fused_network_has_its_own_statistics():
    fused = nn.Sequential(nn.BatchNorm2d(3), neurons())
    fuse_normalisation(fused)
    copied = copy.deepcopy(fused)
    copied(torch.randn(4, 3, 2, 2))
    assert (copied[0].num_batches_tracked, fused[0].num_batches_tracked) == (1, 0)


class OwnBlock(BasicBlock):
    """A block that does something else with its parts."""

    def forward(self, x):
        return self.body(x)


SHARED = nn.BatchNorm2d(8)


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.BatchNorm2d(8), nn.ReLU()),
        nn.Sequential(neurons(), nn.BatchNorm2d(8)),
        nn.Sequential(nn.BatchNorm2d(8), nn.Identity(), neurons()),
        nn.Sequential(nn.BatchNorm2d(8, affine=False), neurons()),
        nn.Sequential(nn.BatchNorm2d(8, track_running_stats=False), neurons()),
        nn.Sequential(nn.BatchNorm2d(8, momentum=None), neurons()),
        nn.Sequential(nn.Sequential(SHARED, neurons()), nn.Sequential(SHARED, neurons())),
        nn.ModuleList([nn.BatchNorm2d(8), neurons()]),
    ],
)
def test_what_is_no_pair_stays(module):
    fuse_normalisation(module)
    assert fused_neurons(module) == [] and not any("forward" in vars(part) for part in module.modules())


def test_a_block_with_a_forward_of_its_own_keeps_its_sum():
    block = OwnBlock(8, 8, 1, neurons)
    fuse_normalisation(block)
    assert fused_neurons(block) == ["body.2"] and "forward" not in vars(block)


def test_what_torch_refuses_is_refused_as_by_torch():
    fused = nn.Sequential(nn.BatchNorm2d(3), neurons())
    fuse_normalisation(fused)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        fused(torch.randn(1, 3, 1, 1))


def test_fused_blocks_are_not_compiled():
    network = build_student("resnet8", num_classes=10, in_channels=3, time_steps=2, neuron=NeuronConfig())
    fuse_normalisation(network)
    before = [vars(block).get("forward") for block in find_blocks(network)]
    compile_blocks(network)
    assert [vars(block).get("forward") for block in find_blocks(network)] == before
