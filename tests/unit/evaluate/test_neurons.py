"""Activity and energy of neurons that fire several spikes in a step, of negative spikes, and of encoded images."""

import pytest
import torch
from torch import nn

from spikedistill.evaluate.activity import ActivityMeter
from spikedistill.evaluate.layers import find_layers
from spikedistill.evaluate.operations import OperationMeter
from spikedistill.evaluate.settings import EnergyConfig
from spikedistill.evaluate.synapses import spikes_in
from spikedistill.models import build_student
from spikedistill.neurons.firing import firing_rates
from spikedistill.neurons.neuron import spiking_layers
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.train.distributed import World


class TwoLayers(nn.Module):
    """One weight of 1 for each of three currents, neurons, and a linear layer of two outputs; two time steps."""

    def __init__(self, **neuron):
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.neurons = spiking_layers(NeuronConfig(**neuron), 2)()
        self.second = nn.Linear(3, 2)
        with torch.no_grad():
            self.first.weight.copy_(torch.eye(3))

    def forward(self, x):
        return self.second(self.neurons(self.first(x)))


# with decay 0.5, at most 3 spikes: 2.2 -> 2 (v 0.2), then 0.1 + 9 -> 3 | 0 -> 0, then 1.4 -> 1 | 3.0 -> 3, then 0
CURRENTS = torch.tensor([[2.2, 0.0, 3.0], [9.0, 1.4, 0.0]])
ILIF = {"name": "ilif", "params": {"most_spikes": 3}}


def measured(model, x, samples=1):
    model.eval()
    with torch.no_grad(), OperationMeter(model) as operations, ActivityMeter(model) as activity:
        model(x)
    energy = EnergyConfig(pj_per_mac=5.0, pj_per_ac=2.0)
    return operations.summary(World(), samples, energy), activity.summary(World(), samples)


def test_every_unit_of_an_integer_is_one_spike_and_one_addition_per_synapse():
    model = TwoLayers(**ILIF)
    operations, activity = measured(model, CURRENTS)
    first, second = operations["layers"]
    assert not first["spiking_input"]
    assert (second["spiking_input"], second["macs"], second["synops"]) == (True, 0, 9 * 2)
    assert second["effective_acs"] == 4 * 2  # of the values 2, 3, 3 and 1, each once
    assert second["energy_pj"] == 2.0 * 18
    layer = activity["firing_rate"]["layers"][0]
    assert layer["name"] == "ilif"
    assert layer["rate_per_step"] == [5 / 3, 4 / 3]
    assert (layer["dead"], layer["saturated"]) == (0, 0)
    assert activity["activation_sparsity"] == pytest.approx(2 / 6)
    assert activity["membrane_updates"] == 3 + 2  # 0.2, 0, 0 then 6.1, 0.4, 0: the last one stays at 0


def test_a_spike_is_an_addition_at_every_synapse_but_an_effective_one_only_where_the_weight_is_not_zero():
    model = TwoLayers(**ILIF)
    with torch.no_grad():
        model.second.weight.fill_(1.0)
        model.second.weight[0, :] = 0.0
    second = measured(model, CURRENTS)[0]["layers"][1]
    assert (second["synops"], second["effective_acs"]) == (2 * 9, 4)


@pytest.mark.parametrize(
    ("signed", "others", "spikes"), [(False, 4, [0, 0, 1, 2, 3]), (True, 3, [1, 0, 1, 2, 3])], ids=["unsigned", "signed"]
)
def test_a_spike_is_a_whole_number_of_at_most_what_a_neuron_fires(signed, others, spikes):
    x = torch.tensor([-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 0.5, 1.5])
    not_spikes, found = spikes_in(x, x != 0, most=3, signed=signed)
    assert int(not_spikes) == others
    assert found[:5].tolist() == spikes


def test_integers_are_expanded_to_the_same_result_by_binary_steps():
    """What the count rests on: D binary steps through a layer of weights add up to the integer through it."""
    model = TwoLayers(**ILIF)
    spikes = model.neurons(CURRENTS)
    binary = torch.stack([(spikes > level).float() for level in range(3)])
    assert binary.sum() == 9
    expected = nn.functional.linear(spikes, model.second.weight)
    torch.testing.assert_close(nn.functional.linear(binary, model.second.weight).sum(0), expected)


def test_integers_are_spikes_behind_the_neurons_only():
    operations, _ = measured(TwoLayers(**ILIF), torch.tensor([[2.0, 0.0, 3.0], [1.0, 1.0, 0.0]]))
    assert [layer["spiking_input"] for layer in operations["layers"]] == [False, True]


def test_integers_count_as_real_values_behind_binary_neurons():
    class Doubled(TwoLayers):
        def forward(self, x):
            return self.second(2 * self.neurons(self.first(x)))

    operations, _ = measured(Doubled(), CURRENTS)
    assert [layer["spiking_input"] for layer in operations["layers"]] == [False, False]


def test_a_negative_spike_is_one_addition_too():
    model = TwoLayers(name="spikingjelly/TernaryIFNode")
    operations, activity = measured(model, torch.tensor([[1.5, -1.5, 0.0], [0.0, -1.5, 0.0]]))
    second = operations["layers"][1]
    assert (second["spiking_input"], second["synops"]) == (True, 3 * 2)
    assert activity["firing_rate"]["layers"][0]["rate_per_step"] == [2 / 3, 1 / 3]
    assert firing_rates(model, torch.tensor([[1.5, -1.5, 0.0], [0.0, -1.5, 0.0]]))["spike/rate"] == pytest.approx(3 / 6)


def test_a_neuron_that_does_not_tell_its_potential_is_updated_at_every_step():
    _, activity = measured(TwoLayers(name="spikingjelly/ComplementaryLIFNode"), CURRENTS)
    assert activity["membrane_updates"] == 6


@pytest.mark.parametrize("name", ["poisson", "latency"])
@pytest.mark.parametrize("backward", ["bptt", "rate"])
def test_the_first_layer_of_an_encoded_student_adds_spikes(name, backward):
    torch.manual_seed(0)
    given = {"num_classes": 3, "in_channels": 1, "time_steps": 4, "neuron": NeuronConfig(threshold=0.3), "backward": backward}
    student = build_student("resnet8", **given, encoding=name, statistics=((0.5,), (0.25,)))
    images = (torch.rand(2, 1, 8, 8) - 0.5) / 0.25
    operations, _ = measured(student, images, samples=2)
    stem = operations["layers"][0]
    assert (stem["name"], stem["spiking_input"], stem["macs"]) == ("stem.conv", True, 0)
    spikes = student.encoder(images)
    assert stem["input_rate"] == pytest.approx(spikes.mean().item())
    assert spikes.sum() == images.numel() or name == "poisson"
    direct = build_student("resnet8", **given)
    direct.load_state_dict(student.state_dict())
    frames = direct.eval()(spikes).logits
    assert torch.equal(student.eval()(images).logits, frames)
    student.train()(images).logits.sum().backward()
    assert student.network.stem.weight.grad.abs().sum() > 0


def test_layers_are_named_after_their_neurons():
    student = build_student("resnet8", num_classes=3, in_channels=1, time_steps=2, neuron=NeuronConfig(name="plif"))
    assert next(iter(find_layers(student, "neuron"))) == "stem.plif"


def test_dead_never_fires_and_saturated_fires_all_it_can_at_every_step():
    (layer,) = neurons = nn.Sequential(spiking_layers(NeuronConfig(name="ilif", decay=0.0, params={"most_spikes": 2}), 2)())
    # two steps of two samples; the currents are the numbers of spikes
    x = torch.tensor([[0.0, 1, 2, 1, 1], [0, 0, 2, 1, 1], [0, 0, 2, 1, 1], [0, 0, 2, 1, 1]])
    with ActivityMeter(neurons) as meter:
        assert torch.equal(layer(x), x)
    (found,) = meter.summary(World(), 2)["firing_rate"]["layers"]
    assert (found["neurons"], found["dead"], found["saturated"]) == (5, 1, 1)
    assert found["rate"] == pytest.approx(17 / 20)
    assert found["rate_per_step"] == pytest.approx([9 / 10, 8 / 10])
