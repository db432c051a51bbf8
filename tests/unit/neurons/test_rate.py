"""Rate-based backpropagation: the reference's numbers, and what its two passes promise."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from spikedistill.errors import ConfigError
from spikedistill.models import build_student
from spikedistill.models.network import Network
from spikedistill.models.wrappers import Student
from spikedistill.neurons import rate
from spikedistill.neurons.dynamics import Dynamics, spike_statistics
from spikedistill.neurons.lif import LIF, lif
from spikedistill.neurons.rate import RateBatchNorm2d, RateLIF, RateModule, StraightThrough, convert_to_rate, spike_pass
from spikedistill.neurons.settings import NeuronConfig

GOLDEN = Path(__file__).parents[2] / "golden"
RESETS = [("hard", False), ("hard", True), ("soft", False), ("soft", True)]


def golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())["cases"]


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def neuron_of(hparams):
    decay = {0.2: 0.19999998807907104}.get(hparams["decay"], hparams["decay"])  # the reference keeps a float32 logit
    reset = "soft" if str(hparams["reset"]).startswith("soft") else "hard"
    return NeuronConfig(decay=decay, threshold=hparams["v_threshold"], reset=reset, detach_reset=hparams["detach_reset"])


@pytest.mark.parametrize("case", golden("rate_bp_lif"), ids=lambda c: c["name"])
def test_neuron_reproduces_the_reference(case):
    inputs, expected = case["inputs"], case["expected"]
    x = tensor(inputs["x_TBN"])
    layer = RateLIF(neuron_of(case["hparams"]), len(x))
    with spike_pass(layer):
        spikes = layer(x.flatten(0, 1))
    torch.testing.assert_close(spikes, tensor(expected["spikes"]).flatten(0, 1), rtol=0, atol=0)
    torch.testing.assert_close(layer.rate, tensor(expected["mean_rate"]), rtol=0, atol=1e-9)
    torch.testing.assert_close(layer.eligibility, tensor(expected["eligibility"]), rtol=0, atol=1e-9)
    c = tensor(inputs["rate_input_c_BN"]).requires_grad_()
    out = layer(c)
    out.backward(tensor(inputs["upstream_grad_BN"]))
    torch.testing.assert_close(out.detach(), tensor(expected["rate_output_value"]), rtol=0, atol=1e-9)
    torch.testing.assert_close(c.grad, tensor(expected["grad_c"]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", golden("rate_bp_bn"), ids=lambda c: c["name"])
def test_normalisation_reproduces_the_reference(case):
    inputs, expected = case["inputs"], case["expected"]
    x = tensor(inputs["x_TBCHW"])
    norm = RateBatchNorm2d(x.shape[2], eps=case["hparams"]["eps"], momentum=case["hparams"]["momentum"]).double()
    with torch.no_grad():
        norm.weight.copy_(tensor(inputs["gamma"]))
        norm.bias.copy_(tensor(inputs["beta"]))
    with spike_pass(norm):
        norm(x.flatten(0, 1))
    rates = x.mean(0).requires_grad_()
    out = norm(rates)
    out.backward(tensor(inputs["upstream_grad_BCHW"]))
    for ours, name in (
        (out.detach(), "rate_output"),
        (rates.grad, "grad_rate_input"),
        (norm.weight.grad, "grad_gamma"),
        (norm.bias.grad, "grad_beta"),
        (norm.running_mean, "running_mean_after"),
        (norm.running_var, "running_var_after"),
    ):
        torch.testing.assert_close(ours, tensor(expected[name]), rtol=0, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")


class Flat(nn.Module):
    """A perceptron over [N, D, 1, 1], so that it fits the shape of `Network`."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x.flatten(1))[..., None, None]


def toy(case):
    """The reference's toy network and the names of its parameters there."""
    neuron, steps = neuron_of(case["hparams"]), case["hparams"]["T"]
    shapes = {name: torch.Size(tensor(value).shape) for name, value in case["inputs"]["parameters"].items()}
    out = nn.Linear(shapes["out.weight"][1], shapes["out.weight"][0])
    if "c1.weight" not in shapes:
        first = nn.Linear(*reversed(shapes["fc1.weight"]))
        more = [nn.Linear(*reversed(shapes["fc2.weight"])), LIF(neuron, steps)] if "fc2.weight" in shapes else []
        names = {"stem.layers.0": "fc1", "stages.0.0.layers.1": "fc2", "classifier": "out"}
        network = Network(
            stem=Flat(first),
            after_stem=nn.Sequential(),
            stages=[nn.Sequential(Flat(LIF(neuron, steps), *more))],
            widths=[out.in_features],
            classifier=out,
        )
        return Student(network.double(), steps, backward="rate"), names
    c1, c2 = (nn.Conv2d(*reversed(shapes[f"{c}.weight"][:2]), 3, padding=1, bias=f"{c}.bias" in shapes) for c in ("c1", "c2"))
    network = Network(
        stem=c1,
        after_stem=nn.Sequential(nn.BatchNorm2d(c1.out_channels), LIF(neuron, steps)),
        stages=[nn.Sequential(c2, nn.BatchNorm2d(c2.out_channels), LIF(neuron, steps))],
        widths=[c2.out_channels],
        classifier=out,
    )
    names = {"stem": "c1", "after_stem.0": "bn1", "stages.0.0": "c2", "stages.0.1": "bn2", "classifier": "out"}
    return Student(network.double(), steps, backward="rate"), names


@pytest.mark.parametrize("case", golden("rate_bp_toy"), ids=lambda c: c["name"])
def test_networks_reproduce_the_reference(case):
    student, names = toy(case)
    values, expected = case["inputs"]["parameters"], case["expected"]

    def reference_name(name):
        prefix, _, leaf = name.rpartition(".")
        return f"{names[prefix]}.{leaf}"

    parameters = dict(student.network.named_parameters())
    buffers = {name: b for name, b in student.network.named_buffers() if "running" in name}
    assert {reference_name(name) for name in (*parameters, *buffers)} == set(values)
    with torch.no_grad():
        for name, held in (*parameters.items(), *buffers.items()):
            held.copy_(tensor(values[reference_name(name)]))
    x = tensor(case["inputs"]["x_T_B"])
    x = x if x.dim() == 5 else x[..., None, None]
    outputs = student(x)
    loss = nn.functional.cross_entropy(outputs.prediction, torch.tensor(case["inputs"]["labels"]))
    loss.backward()
    torch.testing.assert_close(outputs.prediction.detach(), tensor(expected["mean_logits"]), rtol=0, atol=1e-9)
    assert float(loss.detach()) == pytest.approx(expected["loss_value"], abs=1e-9)
    gradients = expected["grads_with_1_over_T_factor"]
    for name, parameter in parameters.items():
        torch.testing.assert_close(
            parameter.grad, tensor(gradients[reference_name(name)]), rtol=0, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize(
    "kind", [{}, {"surrogate": "triangle", "alpha": 1.0, "spike_at_threshold": False}], ids=["default", "ckdsnn"]
)
@pytest.mark.parametrize(("reset", "detach"), RESETS)
def test_eligibility_is_the_derivative_of_the_mean_rate_by_a_constant_input(reset, detach, kind):
    torch.manual_seed(0)
    neuron = NeuronConfig(decay=0.3, reset=reset, detach_reset=detach, **kind)
    x = torch.randn(5, 3, 7, dtype=torch.float64) + 0.7
    x[0, 0] = 1.0  # at the threshold
    constant = torch.zeros(3, 7, dtype=torch.float64, requires_grad=True)
    v_reset = 0.0 if reset == "hard" else None
    exact = lif(x + constant, decay=0.3, threshold=1.0, v_reset=v_reset, detach_reset=detach, **{"alpha": 4.0, **kind})
    exact.mean(0).sum().backward()
    spikes, rate, eligibility = spike_statistics(x, Dynamics.from_config(neuron))
    torch.testing.assert_close(spikes, exact.detach(), rtol=0, atol=0)
    torch.testing.assert_close(rate, exact.detach().mean(0))
    torch.testing.assert_close(eligibility, constant.grad, rtol=1e-12, atol=1e-12)


LARGE = ["resnet18", "resnet19", "resnet20_ckd", "preact_resnet18_imagenet", "sew_resnet18_imagenet", "vggsnn"]


@pytest.mark.parametrize("name", ["resnet8", *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)])
@pytest.mark.parametrize("static", [True, False], ids=["image", "events"])
def test_rate_pass_has_the_mean_of_the_spike_pass_and_leaves_running_statistics_alone(name, static):
    torch.manual_seed(0)
    sizes = {"num_classes": 5, "in_channels": 2, "time_steps": 3, "neuron": NeuronConfig(threshold=0.4)}
    rate, time = build_student(name, **sizes, backward="rate"), build_student(name, **sizes)
    time.load_state_dict(rate.state_dict())
    rate, time = rate.double(), time.double()
    x = torch.rand(*(() if static else (3,)), 4, 2, 16, 16, dtype=torch.float64)
    through_rates, through_time = rate(x), time(x)
    torch.testing.assert_close(through_rates.prediction, through_time.prediction, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(through_rates.features[0], through_time.features.mean(0), rtol=1e-9, atol=1e-9)
    for (key, ours), theirs in zip(rate.named_buffers(), time.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=key)
    rate.eval()
    time.load_state_dict(rate.state_dict())
    torch.testing.assert_close(rate(x).logits, time.eval()(x).logits)


def test_the_division_by_the_number_of_steps_is_a_switch():
    gradients = {}
    for divide in (True, False):
        torch.manual_seed(0)
        student = build_student(
            "resnet8",
            num_classes=3,
            in_channels=1,
            time_steps=4,
            neuron=NeuronConfig(threshold=0.4),
            backward="rate",
            scale_grad_by_steps=divide,
        )
        torch.manual_seed(1)
        student(torch.rand(2, 1, 8, 8)).logits.square().sum().backward()
        gradients[divide] = [p.grad for p in student.parameters()]
    for divided, whole in zip(gradients[True], gradients[False], strict=True):
        torch.testing.assert_close(4 * divided, whole)


def test_nothing_of_the_spike_pass_is_kept_for_backward():
    """The graph of the rate pass holds tensors of one step, whatever T."""
    saved = {}
    for steps in (2, 8):
        student = build_student("resnet8", num_classes=3, in_channels=1, time_steps=steps, neuron=NeuronConfig(), backward="rate")
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x):
            student(torch.rand(steps, 2, 1, 8, 8))
        saved[steps] = sum(sizes)
    assert saved[2] == saved[8]


@pytest.mark.parametrize("layer", [nn.MaxPool2d(2), nn.ReLU()], ids=["pooling", "relu"])
def test_a_layer_that_does_not_commute_passes_on_the_mean_of_its_outputs_with_its_own_gradient(layer):
    module = StraightThrough(layer, 3).train()
    x = torch.randn(3 * 2, 4, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with spike_pass(nn.Sequential(module)):
        steps = module(x)
    assert torch.equal(steps, layer(x))
    ours, theirs = (x.unflatten(0, (3, 2)).mean(0).requires_grad_() for _ in range(2))
    rates, direct = module(ours), layer(theirs)
    torch.testing.assert_close(rates, steps.unflatten(0, (3, 2)).mean(0))
    assert not torch.allclose(rates, direct)
    upstream = torch.arange(rates.numel(), dtype=rates.dtype).reshape(rates.shape)
    rates.backward(upstream)
    direct.backward(upstream)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_every_layer_that_does_not_commute_is_converted():
    network = nn.Sequential(
        nn.Conv2d(1, 1, 1), nn.MaxPool2d(2), nn.Sequential(nn.ReLU(), LIF(NeuronConfig(), 2)), nn.BatchNorm2d(1)
    )
    convert_to_rate(network, 2)
    kinds = [type(layer) for layer in (*network, *network[2])]
    assert kinds == [nn.Conv2d, StraightThrough, nn.Sequential, RateBatchNorm2d, StraightThrough, RateLIF]


def test_a_converted_normalisation_keeps_eps_and_momentum():
    theirs = nn.BatchNorm2d(3, eps=0.3, momentum=0.2)
    ours = RateBatchNorm2d.from_batchnorm(nn.BatchNorm2d(3, eps=0.3, momentum=0.2))
    x = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    with spike_pass(nn.Sequential(ours)):
        torch.testing.assert_close(ours(x), theirs(x).detach())
    for mine, other in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(mine, other)


class Renorm(nn.BatchNorm2d):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("norm", "why"),
    [
        (Renorm(1), "Renorm .* its forward"),
        (nn.BatchNorm2d(1, momentum=None), "momentum"),
        (nn.BatchNorm2d(1, track_running_stats=False), "running"),
        (nn.BatchNorm2d(1, affine=False), "no weight and bias"),
    ],
)
def test_a_normalisation_that_would_become_another_is_refused_by_name(norm, why):
    with pytest.raises(ConfigError, match=rf"layer 1\.0: .*{why}"):
        convert_to_rate(nn.Sequential(LIF(NeuronConfig(), 2), nn.Sequential(norm)), 2)


def test_a_layer_with_a_rate_pass_of_its_own_stays():
    class Own(RateModule, nn.BatchNorm2d):
        pass

    network = nn.Sequential(Own(1), nn.BatchNorm2d(1), StraightThrough(nn.GELU(), 2))
    convert_to_rate(network, 2)
    assert [type(layer) for layer in network] == [Own, RateBatchNorm2d, StraightThrough]
    assert type(network[2].layer) is nn.GELU


def test_a_layer_at_two_places_is_one_layer_at_both():
    relu = nn.ReLU()
    network = nn.ModuleDict({"a": nn.Sequential(relu, nn.Identity(), relu), "b": nn.Sequential(relu)})
    convert_to_rate(network, 2)
    found = {id(layer) for layer in (network["a"][0], network["a"][2], network["b"][0])}
    assert len(found) == 1 and type(network["b"][0]) is StraightThrough


def test_what_is_no_layer_or_commutes_is_let_through():
    parts = [nn.ParameterList([nn.Parameter(torch.ones(1))]), nn.CircularPad2d(1), nn.Module(), nn.Upsample(scale_factor=2)]
    convert_to_rate(nn.ModuleList(parts), 2)


@pytest.mark.parametrize(
    "layer", [nn.GroupNorm(1, 1), nn.LayerNorm(4), nn.GELU(), nn.BatchNorm1d(1), nn.AdaptiveMaxPool2d(1), nn.Dropout(0.1)]
)
def test_a_layer_of_torch_that_does_not_commute_is_refused_by_name(layer):
    with pytest.raises(ConfigError, match=rf"layer 1: {type(layer).__name__} has no rate-based backward pass"):
        convert_to_rate(nn.Sequential(nn.Conv2d(1, 1, 1), layer), 2)
    convert_to_rate(nn.Sequential(nn.Dropout(0.0), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(1, 1), nn.Identity()), 2)


class Twice(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer, self.conv = layer, nn.Conv2d(1, 1, 1)

    def forward(self, x):
        return self.layer(self.conv(self.layer(x)))


@pytest.mark.parametrize("layer", [LIF(NeuronConfig(), 2), nn.MaxPool2d(1), nn.BatchNorm2d(1)])
def test_a_layer_that_is_used_at_two_places_is_told(layer):
    network = Twice(layer).train()
    convert_to_rate(network, 2)
    with spike_pass(network):
        network(torch.rand(4, 1, 3, 3))
    with pytest.raises(ConfigError, match="more often in the rate pass than before it in the spike pass"):
        network(torch.rand(2, 1, 3, 3))


def test_statistics_of_one_value_are_refused():
    layer = RateBatchNorm2d.from_batchnorm(nn.BatchNorm2d(3))
    with spike_pass(nn.Sequential(layer)), pytest.raises(ConfigError, match=r"one value per channel.*engine\.accumulate"):
        layer(torch.rand(1, 3, 1, 1))


@pytest.mark.parametrize("lose", [rate._CASTS_LOSE_GRADIENTS, True])
def test_weights_that_autocast_casts_have_gradients(monkeypatch, lose):
    monkeypatch.setattr(rate, "_CASTS_LOSE_GRADIENTS", lose)
    layer, seen = nn.Conv2d(1, 1, 1), []
    layer.register_forward_hook(lambda *_: seen.append(torch.is_autocast_cache_enabled()))
    with torch.autocast("cpu", torch.bfloat16):
        with spike_pass(layer):
            layer(torch.rand(1, 1, 2, 2))
        layer(torch.rand(1, 1, 2, 2)).sum().backward()
    assert seen == [not lose, True]
    assert layer.weight.grad is not None
