"""Operations, energy and firing rates of students that run all time steps at once, against hand calculations."""

import pytest
import torch
from torch import nn

from spikedistill.evaluate.activity import ActivityMeter
from spikedistill.evaluate.operations import OperationMeter
from spikedistill.evaluate.settings import EnergyConfig
from spikedistill.models import Student, build_student
from spikedistill.models.imported.multi_step import MultiStepNeuron, as_network
from spikedistill.neurons.firing import firing_rates
from spikedistill.neurons.neuron import SpikingNeuron, spiking_layers
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.train.distributed import World

STEPS, BATCH = 2, 3
ENERGY = EnergyConfig(pj_per_mac=5.0, pj_per_ac=2.0)


class Attention(nn.Module):
    """(x @ x^T) @ x of the spikes x [T, B, 1, L, L], then the mean over the tokens."""

    def forward(self, x):
        return ((x @ x.transpose(-2, -1)) @ x)[:, :, 0].mean(2)


def measured(student, inputs):
    student.eval()
    with torch.no_grad(), ActivityMeter(student) as activity, OperationMeter(student) as operations:
        student(inputs)
        student(inputs)
    count = 2 * inputs.shape[-4]
    return activity.summary(World(), count), operations.summary(World(), count, ENERGY)


def test_products_of_attention_equal_a_hand_calculation():
    spikes = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    student = Student(as_network(Attention(), STEPS), STEPS)
    _, result = measured(student, spikes.expand(STEPS, BATCH, 1, 3, 3))
    first, second = result["layers"]
    assert [layer["name"] for layer in result["layers"]] == ["model.matmul1", "model.matmul2"]
    # Per step, x @ x^T is [[1, 1, 0], [1, 2, 0], [0, 0, 0]]: integers, so that the spikes of the second product are those of x.
    assert first["spiking_input"] and first["synops"] == STEPS * 3 * 3 and first["macs"] == 0
    assert second["spiking_input"] and second["synops"] == STEPS * 3 * 3 and second["macs"] == 0
    # Non-zero pairs: x[i, k] and x[j, k] are 1 for 2 * 2 + 1 * 1; (x x^T)[i, k] and x[k, j] for 2 * 1 + 2 * 2.
    assert (first["effective_acs"], second["effective_acs"]) == (STEPS * 5, STEPS * 6)
    assert first["dense"] == STEPS * 27
    assert first["input_rate"] == 3 / 9
    assert result["energy_pj"] == 2.0 * STEPS * 18


def test_products_of_real_values_are_multiply_accumulates():
    student = Student(as_network(Attention(), STEPS), STEPS)
    _, result = measured(student, torch.full((STEPS, BATCH, 1, 4, 4), 0.3))
    found = [(layer["spiking_input"], layer["macs"], layer["synops"]) for layer in result["layers"]]
    assert found == [(False, STEPS * 64, 0)] * 2


class Rectangular(nn.Module):
    """Half of the first row of x [T, B, 1, 2, 3], 1 x 3, times the transpose of x, 3 x 2; its spikes scaled by `scale`."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return ((0.5 * x[..., :1, :]) @ (self.scale * x).transpose(-2, -1))[:, :, 0].mean(2)


# pairs of non-zero values: the first and the third of the row meet 2 and 1 in the second operand
SPIKES = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])


def test_a_product_with_a_spiking_second_operand_adds_once_for_each_spike_and_row_of_the_first():
    _, result = measured(Student(as_network(Rectangular(1.0), STEPS), STEPS), SPIKES.expand(STEPS, BATCH, 1, 2, 3))
    (layer,) = result["layers"]
    assert (layer["spiking_input"], layer["synops"], layer["macs"]) == (True, STEPS * 4, 0)
    assert (layer["dense"], layer["effective_acs"], layer["input_rate"]) == (STEPS * 6, STEPS * 3, 4 / 6)


def test_effective_products_of_real_values_have_no_zero_in_either():
    _, result = measured(Student(as_network(Rectangular(0.3), STEPS), STEPS), SPIKES.expand(STEPS, BATCH, 1, 2, 3))
    (layer,) = result["layers"]
    assert (layer["spiking_input"], layer["macs"], layer["effective_macs"]) == (False, STEPS * 6, STEPS * 3)


class Firing(nn.Module):
    """Neurons, then (s @ s^T / 8) @ s of their spikes s [T, B, 1, L, L]; logits are the mean over the tokens."""

    def __init__(self, **neuron):
        super().__init__()
        self.neurons = MultiStepNeuron(spiking_layers(NeuronConfig(**neuron), STEPS)())

    def forward(self, x):
        s = self.neurons(x)
        return ((s @ s.transpose(-2, -1) / 8) @ s)[:, :, 0].mean(2)


@pytest.mark.parametrize(
    ("neuron", "currents", "spikes"),
    [
        ({"name": "ilif", "params": {"most_spikes": 3}, "decay": 0.0}, [[2.0, 0.0], [3.0, 1.0]], [[2, 0], [3, 1]]),
        ({"name": "spikingjelly/TernaryIFNode"}, [[-1.0, 0.0], [1.0, -1.0]], [[-1, 0], [1, -1]]),
    ],
    ids=["several", "negative"],
)
def test_products_of_several_or_negative_spikes_are_one_addition_for_each_spike(neuron, currents, spikes):
    spikes = torch.tensor(spikes, dtype=torch.float32)
    frames = torch.tensor(currents).expand(STEPS, BATCH, 1, 2, 2)
    student = Student(as_network(Firing(**neuron), STEPS), STEPS)
    assert torch.equal(student.network.model.neurons(frames)[0, 0, 0], spikes)
    _, result = measured(student, frames)
    count, (first, second) = spikes.abs().sum().item(), result["layers"]
    for product in (first, second):  # each of two tokens has two values that a spike meets
        assert product["spiking_input"]
        assert (product["macs"], product["synops"]) == (0, STEPS * count * 2)
        assert product["input_rate"] == count / 4
    nonzero = (spikes != 0).sum(0)  # by value of a token, in either operand
    assert first["effective_acs"] == STEPS * (nonzero * nonzero).sum().item()


def test_operations_of_a_spikformer_are_those_of_its_layers_run_by_hand():
    """Every layer's inputs are recorded, and its products counted by a convolution with weights of one."""
    torch.manual_seed(0)
    student = build_student(
        "spikingjelly/spikformer_ti", num_classes=5, in_channels=2, time_steps=STEPS, neuron=NeuronConfig(threshold=0.02)
    )
    frames = torch.rand(STEPS, BATCH, 2, 32, 32)
    expected = {"macs": 0.0, "synops": 0.0}

    def count(layer, inputs, out):
        x = inputs[0].flatten(0, 1) if inputs[0].dim() == 5 else inputs[0]
        whole = bool(((x >= 0) & (x == x.round())).all())  # 2 and more where blocks have been added
        if isinstance(layer, nn.Linear):
            expected["macs"] += x.numel() * layer.out_features
            assert not whole, "means of spikes"
        elif whole:
            kinds = {nn.Conv1d: nn.functional.conv1d, nn.Conv2d: nn.functional.conv2d}
            function = next(each for kind, each in kinds.items() if isinstance(layer, kind))
            ones = torch.ones_like(layer.weight, dtype=torch.float64)
            expected["synops"] += float(function(x.double(), ones, None, layer.stride, layer.padding).sum())
        else:
            expected["macs"] += out.numel() * layer.weight[0].numel()

    def count_attention(layer, inputs, out):  # the input of `attn_lif` is (v k^T) q / 8, all of spikes
        qkv = layer.qkv_spikes
        q, k, v = qkv.flatten(0, 1).chunk(3, dim=1)
        width, tokens = layer.head_dim, q.shape[-1]
        expected["synops"] += float(v.sum()) * width + float(q.sum()) * width
        assert k.sum() > 0 and tokens == 4

    hooks = []
    for module in student.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            hooks.append(module.register_forward_hook(count))
        if type(module).__name__ == "SpikingSelfAttention":
            keep = lambda lif, inputs, out, owner=module: object.__setattr__(owner, "qkv_spikes", out)  # noqa: E731
            hooks += [module.qkv_lif.register_forward_hook(keep), module.register_forward_hook(count_attention)]
    with torch.no_grad():
        student.eval()(frames)
    for hook in hooks:
        hook.remove()
    _, result = measured(student, frames)
    assert expected["synops"] > 0
    assert result["macs"] == pytest.approx(expected["macs"] / BATCH)
    assert result["synops"] == pytest.approx(expected["synops"] / BATCH)
    assert result["energy_pj"] == pytest.approx(5.0 * result["macs"] + 2.0 * result["synops"])


def test_every_neuron_of_a_model_has_a_firing_rate():
    torch.manual_seed(0)
    student = build_student(
        "spikingjelly/sew_resnet18", num_classes=5, in_channels=2, time_steps=STEPS, neuron=NeuronConfig(threshold=0.3)
    )
    frames = torch.rand(STEPS, BATCH, 2, 32, 32)
    activity, _ = measured(student, frames)
    layers = {layer["name"]: layer for layer in activity["firing_rate"]["layers"]}
    neurons = [module for module in student.modules() if isinstance(module, SpikingNeuron)]
    assert len(layers) == len(neurons) == 20
    spikes = student.network.model.sn1(student.network.model.bn1(student.network.model.conv1(frames)))
    assert layers["model.sn1.lif"]["rate"] == pytest.approx(float(spikes.detach().mean()))
    assert layers["model.sn1.lif"]["neurons"] == 64 * 16 * 16
    assert activity["membrane_updates"] > 0
    assert firing_rates(student, frames)["spike/rate"] == pytest.approx(activity["firing_rate"]["mean"])
