"""Firing rates of a network on one batch."""

import pytest
import torch
from torch import nn

from spikedistill.neurons.firing import firing_rates
from spikedistill.neurons.neuron import spiking_layers
from spikedistill.neurons.settings import NeuronConfig


class Firing(nn.Module):
    """Two layers of 1 and 3 neurons over 2 steps: input currents of 1 fire, those of 0 do not."""

    def __init__(self):
        super().__init__()
        make = spiking_layers(NeuronConfig(), 2)
        self.few, self.many, self.drop = make(), make(), nn.Dropout(1.0)

    def forward(self, x):
        return self.few(x[:, :1]) + self.many(self.drop(x[:, 1:])).sum(1, keepdim=True)


# two steps of one sample: the first neuron fires twice, of the other three one fires once
X = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])


@pytest.mark.parametrize("training", [True, False])
def test_rates_are_those_of_evaluation_and_their_mean_is_over_neurons(training):
    network = Firing().train(training)
    found = firing_rates(network, X)
    assert found["spike/rate_few"] == 1.0
    assert found["spike/rate_many"] == pytest.approx(1 / 6)
    assert found["spike/rate"] == pytest.approx(3 / 8)
    assert network.training == training


def test_negative_spikes_are_spikes():
    neuron = spiking_layers(NeuronConfig(name="spikingjelly/TernaryLIFNode"), 1)()
    fired = neuron(torch.tensor([[9.0, -9.0, 0.0, 0.0]]))
    assert fired.tolist() == [[1, -1, 0, 0]]
    assert firing_rates(nn.Sequential(neuron), torch.tensor([[9.0, -9.0, 0.0, 0.0]]))["spike/rate"] == 0.5


def test_a_network_without_neurons_has_no_rates():
    assert firing_rates(nn.Linear(2, 2), torch.ones(1, 2)) == {}
