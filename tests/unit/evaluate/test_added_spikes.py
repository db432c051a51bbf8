"""Operations of layers whose input is a sum of spikes, such as the stream between the blocks of SEW networks."""

import pytest
import torch
from torch import nn

from spikedistill.evaluate.operations import OperationMeter
from spikedistill.evaluate.settings import EnergyConfig
from spikedistill.models import build_student
from spikedistill.models.network import Network
from spikedistill.models.sew_resnet import SewBlock
from spikedistill.models.wrappers import Student
from spikedistill.neurons.neuron import SpikingNeuron, spiking_layers
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.train.distributed import World

ENERGY = EnergyConfig(pj_per_mac=5.0, pj_per_ac=2.0)


def measured(model, *batches, samples=1):
    model.eval()
    with torch.no_grad(), OperationMeter(model) as meter:
        for inputs in batches:
            model(inputs)
    return meter.summary(World(), samples, ENERGY)


class Added(nn.Module):
    """Neurons of threshold 1 on x [N, 3], neurons on their spikes, and a linear layer on `join` of the spikes of both."""

    def __init__(self, join, **neuron):
        super().__init__()
        layer = spiking_layers(NeuronConfig(**neuron), 1)
        self.stem = nn.Linear(3, 3, bias=False)
        self.first, self.body, self.second, self.head = layer(), nn.Linear(3, 3, bias=False), layer(), nn.Linear(3, 2, bias=False)
        self.join = join
        with torch.no_grad():
            self.stem.weight.copy_(torch.eye(3))
            self.body.weight.copy_(torch.eye(3))
            self.head.weight.copy_(torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]]))

    def forward(self, x):
        spikes = self.first(self.stem(x))
        return self.head(self.join(spikes, self.second(self.body(spikes))))


def head_of(join, *batches, samples=1, **neuron):
    return measured(Added(join, **neuron), *batches, samples=samples)["layers"][-1]


def test_n_added_spikes_are_n_additions_at_each_weight_and_one_effective_input():
    # Both layers fire for 1.5: the head gets 2, 0, 2 and 0, 0, 2; with weights 2, 2, 2, of which 1, 2, 2 are not zero.
    batch = torch.tensor([[1.5, 0.0, 1.5], [0.0, 0.0, 1.5]])
    result = measured(Added(torch.add), batch, samples=2)
    stem, body, head = result["layers"]
    assert [layer["spiking_input"] for layer in (stem, body, head)] == [False, True, True]
    assert (body["synops"], body["input_rate"]) == (3 * 3 / 2, 3 / 6)
    assert (head["macs"], head["synops"], head["input_rate"]) == (0, 6 * 2 / 2, 6 / 6)
    assert (head["dense"], head["effective_acs"], head["effective_macs"]) == (6, (1 + 2 + 2) / 2, 0)
    assert head["energy_pj"] == 2.0 * 6
    assert head["estimate"] == {"synops": 6 * 1.0, "energy_pj": 2.0 * 6}  # 6 MACs of a sample, rate 1
    assert result["energy_pj"] == 5.0 * 9 + 2.0 * (4.5 + 6)


def test_one_fraction_in_any_batch_makes_a_layer_multiply_and_no_other_layer():
    fraction = lambda first, second: (first + second) * torch.where(first.sum() == 3, 0.25, 1.0)  # noqa: E731
    ones = torch.full((1, 3), 1.5)
    batches = [ones * torch.tensor([1.0, 0.0, 1.0]), ones]
    result = measured(Added(fraction), *batches, samples=2)
    assert [layer["spiking_input"] for layer in result["layers"]] == [False, True, False]
    assert (result["layers"][2]["macs"], result["layers"][2]["effective_macs"]) == (6, (1 + 2 + 1 + 2 + 2) / 2)
    assert measured(Added(fraction), batches[0])["layers"][2]["spiking_input"]


@pytest.mark.parametrize(
    ("factor", "spiking"), [(1.0, True), (2.0, False), (-1.0, False)], ids=["sum", "more than neurons fire", "negative"]
)
def test_a_whole_number_is_spikes_if_the_neurons_before_the_layer_can_fire_so_many(factor, spiking):
    # two layers of neurons: at most 2 spikes at a place
    head = head_of(lambda first, second: factor * (first + second), torch.full((1, 3), 1.5))
    assert head["spiking_input"] == spiking


def test_neurons_of_several_spikes_add_up_too():
    several = {"name": "ilif", "params": {"most_spikes": 3}}
    head = head_of(torch.add, torch.tensor([[3.0, 1.0, 0.0]]), **several)
    assert (head["spiking_input"], head["synops"]) == (True, (6 + 2) * 2)
    assert not head_of(lambda first, second: first + second + 1, torch.tensor([[3.0, 1.0, 0.0]]), **several)["spiking_input"]


def test_a_sum_of_negative_spikes_is_as_many_additions_as_its_magnitude():
    head = head_of(torch.add, torch.tensor([[-1.5, 1.5, 0.0]]), name="spikingjelly/TernaryIFNode")
    assert (head["spiking_input"], head["synops"]) == (True, (2 + 2) * 2)


def test_the_largest_of_added_spikes_are_spikes_and_their_mean_is_not():
    batch = torch.tensor([[1.5, 0.0, 1.5]])
    pool = lambda kind: lambda first, second: kind((first + second)[None], 3, stride=1, padding=1)[0]  # noqa: E731
    assert head_of(pool(nn.functional.max_pool1d), batch)["synops"] == (2 + 2 + 2) * 2
    mean = head_of(pool(nn.functional.avg_pool1d), batch)
    assert (mean["spiking_input"], mean["macs"]) == (False, 6)


def test_event_counts_and_whole_pixels_are_real_values_at_every_layer_before_the_neurons():
    class TwoStems(Added):
        def forward(self, x):
            spikes = self.first(self.stem(x) + self.body(x))
            return self.head(spikes + self.second(spikes))

    # zeros and ones first: the two layers of neurons of that pass do not make spikes of the 2 in the next
    layers = measured(TwoStems(torch.add), torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([[2.0, 0.0, 1.0]]), samples=2)["layers"]
    assert [layer["spiking_input"] for layer in layers] == [False, False, True]


def small_sew(time_steps):
    layer = spiking_layers(NeuronConfig(threshold=0.3), time_steps)
    blocks = nn.Sequential(SewBlock(3, 3, 1, layer), SewBlock(3, 3, 1, layer), SewBlock(3, 5, 2, layer))
    after_stem = nn.Sequential(nn.BatchNorm2d(3), layer())
    network = Network(
        stem=nn.Conv2d(2, 3, 3, padding=1), after_stem=after_stem, stages=[blocks], widths=[5], classifier=nn.Linear(5, 4)
    )
    return Student(network, time_steps)


def met(layer, x):
    """Return how many weights of a convolution the values of its input meet, each as often as it says."""
    ones = torch.ones_like(layer.weight, dtype=torch.float64)
    return nn.functional.conv2d(x.double(), ones, None, layer.stride, layer.padding).sum().item()


def test_a_sew_network_adds_as_often_as_convolutions_with_weights_of_one_put_out():
    torch.manual_seed(0)
    student, inputs = small_sew(2).eval(), {}
    for module in student.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda layer, args, out: inputs.update({layer: args[0]}))
    result = measured(student, torch.rand(2, 4, 2, 8, 8), samples=4)
    assert sorted({int(x.max()) for x in list(inputs.values())[1:]}) == [1, 2, 3]
    layers = result["layers"]
    assert [layer["name"] for layer in layers if not layer["spiking_input"]] == ["stem.conv", "head.linear"]
    for operations, (layer, x) in list(zip(layers[:-1], inputs.items(), strict=True))[1:]:
        assert operations["synops"] == met(layer, x) / 4
        assert operations["effective_acs"] == met(layer, x != 0) / 4
        assert operations["energy_pj"] == 2.0 * operations["synops"]


@pytest.mark.parametrize("name", ["sew_resnet18", "spikingjelly/sew_resnet18"])
def test_only_the_image_and_the_pooled_map_are_multiplied_in_a_sew_network(name):
    torch.manual_seed(0)
    student = build_student(name, num_classes=4, in_channels=2, time_steps=2, neuron=NeuronConfig(threshold=0.3))
    largest = 0.0

    def see(layer, args, out):
        nonlocal largest
        largest = max(largest, float(args[0].max()))

    for module in student.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(see)
    layers = measured(student, torch.rand(2, 2, 2, 64, 64), samples=2)["layers"]
    assert largest >= 2
    assert [layer["spiking_input"] for layer in layers] == [False, *[True] * (len(layers) - 2), False]


def test_a_network_of_zeros_and_ones_is_counted_as_before():
    """The rule that it had: a layer adds if all of its inputs are 0 or 1, once for each."""
    torch.manual_seed(0)
    student = build_student("resnet8", num_classes=4, in_channels=2, time_steps=2, neuron=NeuronConfig(threshold=0.3))
    assert all(module.most_spikes == 1 for module in student.modules() if isinstance(module, SpikingNeuron))
    inputs, binary = torch.rand(2, 3, 2, 8, 8), {}
    for module in student.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda layer, args, out: binary.update({layer: ((args[0] == 0) | (args[0] == 1)).all()}))
    layers = measured(student, inputs, samples=3)["layers"]
    assert [layer["spiking_input"] for layer in layers] == [bool(each) for each in binary.values()]
