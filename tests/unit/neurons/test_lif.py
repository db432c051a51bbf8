"""The LIF neuron against golden data, SpikingJelly and hand-computed values."""

import json
from pathlib import Path

import pytest
import torch
from spikingjelly.activation_based import neuron as sj_neuron
from spikingjelly.activation_based import surrogate as sj_surrogate

from spikedistill.neurons.lif import LIF, lif
from spikedistill.neurons.settings import NeuronConfig

DEFAULTS = {"decay": 0.5, "threshold": 1.0, "v_reset": 0.0, "detach_reset": False, "alpha": 4.0}
CKDSNN = DEFAULTS | {"alpha": 1.0, "surrogate": "triangle", "spike_at_threshold": False}


def golden(name):
    return json.loads((Path(__file__).parents[2] / "golden" / f"{name}.json").read_text())["cases"]


def options(case):
    given = case["hparams"]
    return {
        "decay": given.get("lambda_effective", given["decay"]),
        "threshold": given["v_threshold"],
        "v_reset": given["v_reset"],
        "detach_reset": given["detach_reset"],
        "alpha": 1 / given["gamma"] if given["surrogate"] == "triangle" else given["alpha"],
        "surrogate": given["surrogate"],
        "spike_at_threshold": given["fire_at_equality"],
    }


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", golden("lif"), ids=lambda case: case["name"])
def test_matches_golden_spikes_and_gradients(case, dtype):
    x = torch.tensor(case["inputs"]["x_TN"], dtype=dtype, requires_grad=True)
    spikes = lif(x, **options(case))
    spikes.backward(torch.tensor(case["inputs"]["upstream_grad_on_spikes_TN"], dtype=dtype))
    torch.testing.assert_close(spikes.tolist(), case["expected"]["spikes"])
    expected = torch.tensor(case["expected"]["grad_x"], dtype=dtype)
    exact = dtype == torch.float64 and not case["name"].startswith("ckdsnn")  # theirs computes in float32
    torch.testing.assert_close(x.grad, expected, rtol=0, atol=1e-9 if exact else 1e-6)


SURROGATES = {
    "sigmoid_alpha4": DEFAULTS,
    "triangle_gamma1": CKDSNN,
    "triangle_gamma0.5": CKDSNN | {"alpha": 2.0},
}


@pytest.mark.parametrize("case", golden("surrogate"), ids=lambda case: case["name"])
def test_surrogate_matches_golden_derivative(case):
    u = torch.tensor(case["inputs"]["u"], dtype=torch.float64)
    x = (u + 1)[None].requires_grad_()
    spikes = lif(x, **SURROGATES[case["name"]])
    spikes.sum().backward()
    assert spikes[0].tolist() == case["expected"]["spike"]
    torch.testing.assert_close(x.grad[0].tolist(), case["expected"]["derivative"], rtol=0, atol=1e-9)


SPIKINGJELLY = {"sigmoid": sj_surrogate.Sigmoid, "triangle": sj_surrogate.PiecewiseQuadratic}


@pytest.mark.parametrize("surrogate", SPIKINGJELLY)
@pytest.mark.parametrize("v_reset", [0.0, None, -0.25], ids=["hard", "soft", "hard to -0.25"])
@pytest.mark.parametrize("detach_reset", [True, False], ids=["detached", "attached"])
@pytest.mark.parametrize("decay_input", [False, True], ids=["input", "decayed input"])
@pytest.mark.parametrize(("decay", "threshold", "alpha"), [(0.5, 1.0, 4.0), (0.2, 0.7, 0.8)])
def test_matches_spikingjelly_forward_and_backward(surrogate, v_reset, detach_reset, decay_input, decay, threshold, alpha):
    """Theirs scales a decayed input by 1 / tau, and rests, starts and is reset at v_reset: that is a shift of the threshold."""
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.randn(6, 40, 50, generator=generator, dtype=torch.float64) + 0.5
    upstream = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()

    spikes = lif(
        ours * (1 - decay) if decay_input else ours,
        decay=decay,
        threshold=threshold - (v_reset or 0.0),
        v_reset=None if v_reset is None else 0.0,
        detach_reset=detach_reset,
        alpha=alpha,
        surrogate=surrogate,
    )
    spikes.backward(upstream)

    reference = sj_neuron.LIFNode(
        tau=1 / (1 - decay),
        decay_input=decay_input,
        v_threshold=threshold,
        v_reset=v_reset,
        detach_reset=detach_reset,
        surrogate_function=SPIKINGJELLY[surrogate](alpha=alpha),
        step_mode="m",
    ).double()
    expected = reference(theirs)
    expected.backward(upstream)
    assert 0.1 < spikes.mean() < 0.9
    assert torch.equal(spikes, expected)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-9)


@pytest.mark.parametrize("detach_reset", [True, False])
def test_gradient_of_a_reset_to_another_potential_matches_step_by_step_autograd(detach_reset):
    x = torch.tensor([[1.2, 0.4], [0.3, 0.9], [0.9, 1.4]], dtype=torch.float64)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    weights = torch.tensor([[0.3, -1.0], [0.7, 0.2], [-0.5, 1.1]], dtype=torch.float64)
    given = DEFAULTS | {"v_reset": 0.25, "detach_reset": detach_reset}
    (lif(ours, **given) * weights).sum().backward()

    v, total = torch.zeros(2, dtype=torch.float64), 0.0
    fire = sj_surrogate.Sigmoid(alpha=4.0)
    for x_t, weight in zip(theirs, weights, strict=True):
        h = 0.5 * v + x_t
        s = fire(h - 1.0)
        total = total + (weight * s).sum()
        reset = s.detach() if detach_reset else s
        v = (1 - reset) * h + 0.25 * reset
    total.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-9)


def test_worked_example_fires_at_equality_or_above_it_and_resets():
    x = torch.tensor([[1.0], [0.0], [1.0], [0.5]])
    assert lif(x, **DEFAULTS).flatten().tolist() == [1.0, 0.0, 1.0, 0.0]
    assert lif(x, **CKDSNN).flatten().tolist() == [0.0, 0.0, 1.0, 0.0]  # h = 1, 0.5, 1.25, 0.5
    soft = DEFAULTS | {"v_reset": None, "decay": 0.2}
    assert lif(torch.tensor([[0.6], [0.6], [0.9], [0.2]]), **soft).flatten().tolist() == [0.0, 0.0, 1.0, 0.0]


def test_half_precision_input_is_integrated_in_float32():
    # 1 + 2^-9 accumulates to the threshold in float32; bfloat16 would round every partial sum.
    x = torch.full((2, 1), 0.66796875, dtype=torch.bfloat16)
    given = DEFAULTS | {"threshold": 1.5 * 0.66796875}
    spikes = lif(x, **given)
    assert spikes.dtype == torch.bfloat16
    assert spikes.flatten().tolist() == [0.0, 1.0]


def test_module_folds_time_before_batch():
    module = LIF(NeuronConfig(), time_steps=3)
    x = torch.rand(3, 2, 4) * 2
    expected = lif(x, **DEFAULTS)
    assert torch.equal(module(x.flatten(0, 1)), expected.flatten(0, 1))


def test_module_is_the_neuron_of_its_settings():
    x = torch.tensor([[1.0], [0.0], [1.0], [0.5]], requires_grad=True)
    module = LIF(NeuronConfig(surrogate="triangle", alpha=1.0, spike_at_threshold=False), time_steps=4)
    expected = lif(x, **CKDSNN)
    spikes = module(x)
    assert torch.equal(spikes, expected)
    gradients = [torch.autograd.grad(each.sum(), x)[0] for each in (spikes, expected)]
    assert torch.equal(*gradients)


def test_module_starts_every_forward_at_rest():
    module = LIF(NeuronConfig(), time_steps=2)
    x = torch.full((2, 1), 0.6)
    assert torch.equal(module(x), module(x))
    assert not module(x).any()


def test_soft_reset_setting_subtracts_the_threshold():
    x = torch.tensor([[1.9], [0.6]])
    soft = LIF(NeuronConfig(reset="soft"), time_steps=2)
    hard = LIF(NeuronConfig(reset="hard"), time_steps=2)
    assert soft(x).flatten().tolist() == [1.0, 1.0]
    assert hard(x).flatten().tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("reset", "expected"), [("hard", [0.6, 0.0, 0.2]), ("soft", [0.6, 0.1, 0.25])])
def test_potentials_are_those_after_the_reset(reset, expected):
    layer = LIF(NeuronConfig(reset=reset), time_steps=3)
    x = torch.tensor([[0.6], [0.8], [0.2]])  # before the reset: 0.6, 1.1, then 0.2 or 0.25
    spikes = layer(x)
    assert spikes[:, 0].tolist() == [0, 1, 0]
    found = [potential.item() for potential in layer.potentials(x[:, None], spikes[:, None])]
    assert found == pytest.approx(expected)
