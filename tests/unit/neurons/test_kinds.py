"""PLIF and ILIF against SpikingJelly's, ALIF against its equations, SpikingJelly's own through the adapter."""

import pytest
import torch
from pydantic import ValidationError
from spikingjelly.activation_based import functional, surrogate
from spikingjelly.activation_based import neuron as sj_neuron

from spikedistill import components
from spikedistill.errors import ConfigError
from spikedistill.neurons.lif import LIF
from spikedistill.neurons.neuron import spiking_layers
from spikedistill.neurons.rate import convert_to_rate
from spikedistill.neurons.settings import NeuronConfig

T, B = 6, 4


def layer_of(name, time_steps=T, **config):
    return spiking_layers(NeuronConfig(name=name, **config), time_steps)()


def run(layer, x, upstream):
    """Spikes, the gradient of the currents, and those of what is learnt, of [T * B, ...]."""
    x = x.clone().requires_grad_()
    spikes = layer(x)
    spikes.backward(upstream)
    return spikes.detach(), x.grad, [parameter.grad for parameter in layer.parameters()]


def currents(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.randn(T * B, 30, 20, generator=generator, dtype=torch.float64) + 0.5
    upstream = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    return x.to(dtype), upstream.to(dtype)


def theirs_of(node, x, upstream):
    folded = x.unflatten(0, (T, B)).clone().requires_grad_()
    spikes = node(folded)
    spikes.backward(upstream.unflatten(0, (T, B)))
    functional.reset_net(node)
    return spikes.detach().flatten(0, 1), folded.grad.flatten(0, 1), [parameter.grad for parameter in node.parameters()]


def assert_equal(ours, theirs):
    assert torch.equal(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], theirs[1], rtol=0, atol=1e-6)
    assert len(ours[2]) == len(theirs[2])
    for mine, other in zip(ours[2], theirs[2], strict=True):
        torch.testing.assert_close(mine.to(other), other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize(("decay", "alpha"), [(0.5, 4.0), (0.2, 2.0)])
def test_plif_is_that_of_spikingjelly(reset, detach_reset, decay_input, decay, alpha):
    common = {"decay": decay, "reset": reset, "detach_reset": detach_reset, "alpha": alpha}
    ours = layer_of("plif", **common, params={"decay_input": decay_input}).double()
    theirs = sj_neuron.ParametricLIFNode(
        init_tau=1 / (1 - decay),
        decay_input=decay_input,
        v_reset=0.0 if reset == "hard" else None,
        detach_reset=detach_reset,
        surrogate_function=surrogate.Sigmoid(alpha=alpha),
        step_mode="m",
    ).double()
    theirs.w.data = ours.w.detach().clone()  # both start from float32 logarithms
    x, upstream = currents()
    found = run(ours, x, upstream)
    assert 0.1 < found[0].mean() < 0.9
    assert_equal(found, theirs_of(theirs, x, upstream))


@pytest.mark.parametrize("decay", [0.5, 0.2, 0.9])
def test_plif_starts_as_a_lif_neuron_of_the_configured_decay(decay):
    x, upstream = currents(torch.float32)
    plif, lif = layer_of("plif", decay=decay), LIF(NeuronConfig(decay=decay), T)
    spikes, gradient, _ = run(plif, x, upstream)
    expected, expected_gradient, _ = run(lif, x, upstream)
    assert (spikes != expected).float().mean() < 1e-4  # the decay is rounded
    agree = (spikes == expected).unflatten(0, (T, B)).all(0).expand(T, B, -1, -1).flatten(0, 1)
    torch.testing.assert_close(gradient[agree], expected_gradient[agree], rtol=1e-4, atol=1e-4)


def test_the_lif_neuron_of_a_plif_neuron_has_the_decay_that_it_learnt():
    layer = layer_of("plif", decay=0.5, params={"decay_input": True}).double()
    with torch.no_grad():
        layer.w.fill_(1.0)
    lif = layer.equivalent_lif()
    share = torch.tensor(1.0, dtype=torch.float64).sigmoid().item()
    assert (lif.name, lif.params) == ("lif", {})
    assert (lif.decay, lif.threshold) == pytest.approx((1 - share, 1 / share), rel=1e-12)
    x, _ = currents()
    assert torch.equal(layer(x), LIF(lif, T)(x))


@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize(("decay", "threshold", "most"), [(0.25, 1.0, 4), (0.5, 0.7, 2), (0.5, 1.5, 1)])
def test_ilif_is_that_of_spikingjelly(detach_reset, decay, threshold, most):
    ours = layer_of("ilif", decay=decay, threshold=threshold, detach_reset=detach_reset, params={"most_spikes": most})
    theirs = sj_neuron.ILIFNode(
        tau=1 / (1 - decay),
        v_threshold=threshold,
        surrogate_function=surrogate.MultiLevelSpikeCount(most),
        detach_reset=detach_reset,
        step_mode="m",
    ).double()
    x, upstream = currents()
    found = run(ours, x, upstream)
    assert found[0].max() == most and found[0].min() == 0
    assert_equal(found, theirs_of(theirs, x, upstream))


def test_ilif_rounds_and_clips_a_known_course():
    # h: 0.4, 2.7, -0.05 + 9 ... with decay 0.5: 0.4 | 0.2 + 2.5 = 2.7 -> 3, v = -0.3 | -0.15 + 9 = 8.85 -> 4, v = 4.85
    layer = layer_of("ilif", time_steps=3, params={"most_spikes": 4})
    x = torch.tensor([[0.4], [2.5], [9.0]], requires_grad=True)
    spikes = layer(x)
    assert spikes[:, 0].tolist() == [0, 3, 4]
    spikes[2].sum().backward()
    assert x.grad[:, 0].tolist() == [0, 0, 0]  # h exceeds D, where the gradient is cut
    potentials = [value.item() for value in layer.potentials(x.detach()[:, None], spikes.detach()[:, None])]
    assert potentials == pytest.approx([0.4, -0.3, 4.85])


def test_alif_raises_its_threshold_with_every_spike():
    # threshold 1, beta 1, rho 0.5; constant current 1: fires, the threshold is 1.5, then 1.25, 1.125
    layer = layer_of("alif", time_steps=4, decay=0.5, params={"beta": 1.0, "rho": 0.5})
    x = torch.ones(4, 1)
    # h: 1 (>= 1, fires, v 0) | 1 (< 1.5) | 0.5 + 1 = 1.5 (>= 1.25, fires) | 1 (< 1 + 0.125 + 0.5)
    assert layer(x)[:, 0].tolist() == [1, 0, 1, 0]
    soft = layer_of("alif", time_steps=3, decay=0.5, reset="soft", params={"beta": 1.0, "rho": 0.5})
    # h: 3 -> v 2 | 1 + 1 = 2 (>= 1.5) -> v 0.5 | 0.25 + 1 = 1.25 (< 1 + 0.75)
    assert soft(torch.tensor([[3.0], [1.0], [1.0]]))[:, 0].tolist() == [1, 1, 0]
    found = [v.item() for v in soft.potentials(torch.tensor([[[3.0]], [[1.0]], [[1.0]]]), None)]
    assert found == [2.0, 0.5, 1.25]


def test_alif_forgets_its_rise_slowly():
    # beta 4, rho 0.75; fires, so the threshold is 1 + 4 * 0.25 = 2, then 1.75, then 1.5625, 1.421875
    layer = layer_of("alif", time_steps=4, decay=0.0, params={"beta": 4.0, "rho": 0.75})
    x = torch.tensor([[1.0, 1.0, 1.0], [1.9, 0.0, 0.0], [1.7, 1.8, 0.0], [1.5, 0.0, 1.5]])
    assert layer(x).T.tolist() == [[1, 0, 0, 0], [1, 0, 1, 0], [1, 0, 0, 0]]
    x[3, 2] = 1.6
    assert layer(x).T.tolist()[2] == [1, 0, 0, 1]


def test_half_precision_is_integrated_in_float32():
    layer = layer_of("plif", decay=0.7, params={"decay_input": True})
    x = currents()[0].bfloat16()
    found, expected = (list(layer.potentials(each.unflatten(0, (T, -1)), None)) for each in (x, x.float()))
    for ours, wanted in zip(found, expected, strict=True):
        assert torch.equal(ours, wanted)
    assert layer(x).dtype == torch.bfloat16


@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_alif_without_a_rise_is_lif(reset):
    x, upstream = currents()
    ours = run(layer_of("alif", reset=reset, params={"beta": 0.0}), x, upstream)
    assert_equal(ours, run(LIF(NeuronConfig(reset=reset), T), x, upstream))


@pytest.mark.parametrize("name", ["LIFNode", "QIFNode", "ParametricLIFNode", "KLIFNode", "TernaryLIFNode"])
def test_the_adapter_gives_what_the_class_gives(name):
    given = {"surrogate_function": {"name": "ATan", "alpha": 3.0}, "detach_reset": True}
    ours = layer_of(f"spikingjelly/{name}", params=given).double()
    theirs = getattr(sj_neuron, name)(surrogate_function=surrogate.ATan(alpha=3.0), detach_reset=True, step_mode="m").double()
    x, upstream = currents()
    found = run(ours, x, upstream)
    expected = theirs_of(theirs, x, upstream)
    assert found[0].abs().sum() > 0
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
    assert all(map(torch.equal, found[2], expected[2]))
    assert ours.signed == name.startswith("Ternary")


def test_numbers_of_spikes_of_an_adapted_neuron_are_known():
    assert layer_of("spikingjelly/ILIFNode").most_spikes == 4
    assert layer_of("spikingjelly/LIFNode").most_spikes == 1


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("spikingjelly/QIFNode", {"backend": "cupy"}, "computed by PyTorch on every device: leave it out, or say torch"),
        ("spikingjelly/QIFNode", {"surrogate_function": {"name": "Atan"}}, "Did you mean 'ATan'"),
        ("spikingjelly/QIFNode", {"taus": 2.0}, "taus"),
        ("spikingjelly/QIFNode", {"tau": "fast"}, "valid number"),
        ("ilif", {"most_spikes": 0}, "greater than or equal to 1"),
    ],
)
def test_wrong_parameters_are_refused(name, params, message):
    with pytest.raises(ValidationError, match=message):
        components.load("neurons.kinds", name).Params.model_validate(params)


def test_arguments_that_the_class_refuses_are_told_in_one_line():
    with pytest.raises(ConfigError, match=r"student\.neuron\.params: spikingjelly/LIFNode refuses .*'tau': 0.5"):
        layer_of("spikingjelly/LIFNode", params={"tau": 0.5})


@pytest.mark.parametrize("name", ["PSN", "OTTTLIFNode", "MPBNLIFNode"])
def test_a_class_that_cannot_be_a_layer_is_refused_with_the_reason(name):
    with pytest.raises(ConfigError, match=f"spikingjelly/{name} cannot be the neuron of a student: it "):
        components.load("neurons.kinds", f"spikingjelly/{name}")


def test_an_unknown_neuron_is_answered_with_the_closest():
    with pytest.raises(ConfigError, match=r"unknown neuron 'plfi'\. Did you mean 'plif'"):
        layer_of("plfi")
    with pytest.raises(ConfigError, match=r"unknown spikingjelly neuron 'QIFnode'\. Did you mean 'QIFNode'"):
        layer_of("spikingjelly/QIFnode")


@pytest.mark.parametrize("name", ["plif", "ilif", "alif", "spikingjelly/LIFNode"])
def test_rate_based_backpropagation_refuses_a_neuron_without_it(name):
    with pytest.raises(ConfigError, match=f"neuron '{name}' has no rate-based backward pass; set student.backward to bptt"):
        convert_to_rate(torch.nn.Sequential(layer_of(name)), T)
