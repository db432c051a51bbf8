"""The LIF neuron against golden data, SpikingJelly and hand-computed values."""

import json
from pathlib import Path

import pytest
import torch
from spikingjelly.activation_based import neuron as sj_neuron
from spikingjelly.activation_based import surrogate as sj_surrogate

from spikedistill.neurons.lif import LIF, lif
from spikedistill.neurons.settings import NeuronConfig

GOLDEN = Path(__file__).parents[2] / "golden"
# The other cases fire strictly above the threshold and use a triangular surrogate: another neuron.
CASES = [c for c in json.loads((GOLDEN / "lif.json").read_text())["cases"] if c["hparams"]["surrogate"] == "sigmoid"]
DEFAULTS = {"decay": 0.5, "threshold": 1.0, "v_reset": 0.0, "detach_reset": False, "alpha": 4.0}


def options(case):
    given = case["hparams"]
    return {
        "decay": given["lambda_effective"],
        "threshold": given["v_threshold"],
        "v_reset": given["v_reset"],
        "detach_reset": given["detach_reset"],
        "alpha": given["alpha"],
    }


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_matches_golden_spikes_and_gradients(case, dtype):
    x = torch.tensor(case["inputs"]["x_TN"], dtype=dtype, requires_grad=True)
    spikes = lif(x, **options(case))
    spikes.backward(torch.tensor(case["inputs"]["upstream_grad_on_spikes_TN"], dtype=dtype))
    torch.testing.assert_close(spikes.tolist(), case["expected"]["spikes"])
    expected = torch.tensor(case["expected"]["grad_x"], dtype=dtype)
    torch.testing.assert_close(x.grad, expected, rtol=0, atol=1e-6)


def test_surrogate_matches_golden_derivative():
    case = next(c for c in json.loads((GOLDEN / "surrogate.json").read_text())["cases"] if c["name"] == "sigmoid_alpha4")
    u = torch.tensor(case["inputs"]["u"], dtype=torch.float64)
    x = (u + 1)[None].requires_grad_()
    spikes = lif(x, **DEFAULTS)
    spikes.sum().backward()
    assert spikes[0].tolist() == case["expected"]["spike"]
    torch.testing.assert_close(x.grad[0].tolist(), case["expected"]["derivative"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("v_reset", [0.0, None])
@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize(("decay", "threshold", "alpha"), [(0.5, 1.0, 4.0), (0.2, 0.7, 2.0)])
def test_matches_spikingjelly_forward_and_backward(v_reset, detach_reset, decay, threshold, alpha):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 3, 5, generator=generator, dtype=torch.float64) + 0.5
    upstream = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()

    spikes = lif(ours, decay=decay, threshold=threshold, v_reset=v_reset, detach_reset=detach_reset, alpha=alpha)
    spikes.backward(upstream)

    reference = sj_neuron.LIFNode(
        tau=1 / (1 - decay),
        decay_input=False,
        v_threshold=threshold,
        v_reset=v_reset,
        detach_reset=detach_reset,
        surrogate_function=sj_surrogate.Sigmoid(alpha=alpha),
        step_mode="m",
    ).double()
    expected = reference(theirs)
    expected.backward(upstream)
    assert torch.equal(spikes, expected)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-7)


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


def test_worked_example_fires_at_equality_and_resets():
    x = torch.tensor([[1.0], [0.0], [1.0], [0.5]])
    assert lif(x, **DEFAULTS).flatten().tolist() == [1.0, 0.0, 1.0, 0.0]
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
