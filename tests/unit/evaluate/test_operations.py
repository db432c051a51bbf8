"""Operations, energy and footprint against hand calculations and SpikingJelly's counters."""

import numpy as np
import pytest
import torch
from spikingjelly.activation_based.op_counter import DispatchCounterMode, MACCounter, SynOpCounter
from torch import nn

from spikedistill.evaluate.layers import find_layers
from spikedistill.evaluate.operations import OperationMeter, footprint
from spikedistill.evaluate.settings import EnergyConfig
from spikedistill.models import build_student, build_teacher
from spikedistill.neurons.lif import LIF
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.train.distributed import World


def operations(model, inputs, *, energy=None):
    model.eval()
    with torch.no_grad(), OperationMeter(model) as meter:
        model(inputs)
    return meter.summary(World(), num_samples=len(inputs), energy=energy or EnergyConfig())


class TwoLayers(nn.Module):
    """A 3x3 convolution of an image, neurons with threshold 1, and a linear layer on their spikes; two time steps."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        self.lif = LIF(NeuronConfig(decay=0.5), time_steps=2)
        self.linear = nn.Linear(9, 2)
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[0, 0, 1, 1] = 1  # the identity

    def forward(self, x):
        return self.linear(self.lif(self.conv(x).repeat(2, 1, 1, 1)).flatten(1))


def test_two_layers_with_known_spikes_equal_a_hand_calculation():
    # Pixels of 1.0 fire at both steps, pixels of 0.7 at the second (0.7, then 0.35 + 0.7), the others never: 2 * 2 + 3 spikes.
    image = torch.tensor([[1.0, 0.7, 0.0], [0.7, 1.0, 0.0], [0.0, 0.7, 0.1]]).reshape(1, 1, 3, 3)
    result = operations(TwoLayers(), image, energy=EnergyConfig(pj_per_mac=5.0, pj_per_ac=2.0))
    conv, linear = result["layers"]
    assert (conv["name"], conv["spiking_input"], conv["macs"], conv["synops"]) == ("conv", False, 9 * 9, 0)
    assert (linear["name"], linear["spiking_input"], linear["macs"], linear["synops"]) == ("linear", True, 0, 7 * 2)
    assert linear["input_rate"] == 7 / 18
    assert (result["macs"], result["synops"], result["energy_pj"]) == (81, 14, 5.0 * 81 + 2.0 * 14)
    assert result["estimate"] == {"synops": 2 * 18 * 7 / 18, "energy_pj": 5.0 * 81 + 2.0 * 14}
    # Without the padding: 4 corners of 4, 4 edges of 6, 1 centre of 9 products; 6 pixels and the one weight are not zero.
    assert result["dense"] == 49 + 2 * 18
    assert (result["effective_macs"], result["effective_acs"]) == (6, 14)


class Coincidences(nn.Module):
    """x @ x^T of the spikes x [T*B, 2, 3] of neurons that fire where an image [B, 2, 3] is 1; two time steps."""

    def __init__(self):
        super().__init__()
        self.lif = LIF(NeuronConfig(decay=0.5), time_steps=2)

    def forward(self, x):
        spikes = self.lif(x.repeat(2, 1, 1))
        return spikes @ spikes.transpose(1, 2)


def test_products_of_spikes_outside_of_layers_are_counted():
    image = torch.tensor([[[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]])
    (product,) = operations(Coincidences(), image)["layers"]
    assert (product["spiking_input"], product["macs"], product["synops"]) == (True, 0, 2 * 3 * 2)
    assert product["dense"] == 2 * 2 * 3 * 2


def test_spikes_at_the_border_of_a_map_reach_fewer_weights():
    layer = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, stride=2))
    spikes = torch.zeros(1, 2, 4, 4)
    spikes[0, 0, 0, 0] = spikes[0, 1, 1, 1] = 1  # outputs lie at rows and columns 0 and 2
    result = operations(layer, spikes)
    assert result["synops"] == 4 * (1 + 4)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, padding=1, stride=2, groups=2),
        nn.Conv2d(4, 6, (3, 5), padding="same", dilation=2),
        nn.Conv1d(4, 6, 4, padding=1),
        nn.Conv3d(2, 3, 2, stride=(1, 2, 1)),
        nn.Conv2d(4, 6, 3, padding=2, stride=2, padding_mode="circular"),
        nn.Conv2d(4, 6, (1, 3), padding=(0, 1), padding_mode="replicate"),
    ],
    ids=["grouped", "dilated", "1d", "3d", "circular", "replicate"],
)
def test_effective_operations_of_any_convolution_are_products_of_non_zero_values(layer):
    generator = torch.Generator().manual_seed(0)
    sizes = {1: (9,), 2: (6, 7), 3: (4, 5, 6)}[len(layer.kernel_size)]
    inputs = torch.randn(3, layer.in_channels, *sizes, generator=generator).relu()
    with torch.no_grad():
        layer.weight *= torch.rand(layer.weight.shape, generator=generator) < 0.5
    result = operations(nn.Sequential(layer), inputs)
    with torch.no_grad():
        layer.bias.zero_()
        layer.weight.copy_(layer.weight != 0)
        expected = layer((inputs != 0).float()).double().sum() / 3
    assert result["effective_macs"] == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("make", ["student", "teacher"])
def test_resnet18_agrees_with_the_counters_of_spikingjelly(make):
    torch.manual_seed(0)
    kind = {"num_classes": 10, "in_channels": 3}
    neuron = NeuronConfig(threshold=0.3)  # low, so that an untrained network fires
    student = build_student("resnet18", **kind, time_steps=2, neuron=neuron)
    model = student if make == "student" else build_teacher("resnet18", **kind)
    images = torch.randn(2, 3, 32, 32)
    ours = operations(model, images)
    macs, synops = MACCounter(extra_ignore_modules=[nn.BatchNorm2d]), SynOpCounter()
    with torch.no_grad(), DispatchCounterMode([macs, synops]):
        model(images)
    assert ours["macs"] == macs.get_total() / 2
    assert ours["synops"] == synops.get_total() / 2
    assert (ours["synops"] > 0) == (make == "student")


def test_footprint_is_bytes_of_parameters_and_buffers():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight[0] = 0
    parameters = 18 + 2 + 4 + 8 + 2
    assert footprint(model) == {
        "parameters": parameters,
        "footprint": 4 * parameters + 4 * 4 + 8,  # running mean and variance, and an int64 counter
        "connection_sparsity": 9 / 26,
    }


def test_layers_are_named_by_stage_block_and_kind():
    student = build_student("resnet8", num_classes=2, in_channels=1, time_steps=1, neuron=NeuronConfig())
    assert list(find_layers(student, "conv", "linear", "neuron")) == [
        "stem.conv",
        "stem.lif",
        "stage1.block1.conv1",
        "stage1.block1.lif1",
        "stage1.block1.conv2",
        "stage1.block1.lif2",
        "stage2.block1.conv1",
        "stage2.block1.lif1",
        "stage2.block1.conv2",
        "stage2.block1.shortcut.conv",
        "stage2.block1.lif2",
        "stage3.block1.conv1",
        "stage3.block1.lif1",
        "stage3.block1.conv2",
        "stage3.block1.shortcut.conv",
        "stage3.block1.lif2",
        "head.linear",
    ]


@pytest.mark.parametrize("name", ["vggsnn", "sew_resnet18", "preact_resnet18", "resnet19"])
def test_every_layer_of_every_family_has_a_name_of_its_own(name):
    student = build_student(name, num_classes=2, in_channels=2, time_steps=1, neuron=NeuronConfig())
    names = list(find_layers(student, "conv", "linear", "neuron"))
    assert len(set(names)) == len(names)
    assert len(names) == sum(isinstance(m, nn.Conv2d | nn.Linear | LIF) for m in student.modules())
    assert np.all([name.split(".")[0] in ("stem", "head") or name.startswith("stage") for name in names])
