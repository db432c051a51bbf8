"""Kernels of the LIF neuron against the plain functions, for every setting; in the interpreter or on a GPU."""

import itertools

import pytest
import torch

from spikedistill.neurons import dynamics as plain
from spikedistill.neurons.dynamics import Dynamics
from spikedistill.neurons.kernels import launch, lif, rate
from spikedistill.neurons.lif import LIF
from spikedistill.neurons.settings import NeuronConfig

DEVICE = "cpu" if launch.INTERPRETED else "cuda"
NEURONS = [
    Dynamics(0.5, 1.0, v_reset, detach_reset, alpha, surrogate, spike_at_threshold)
    for v_reset, detach_reset, (alpha, surrogate, spike_at_threshold) in itertools.product(
        (0.0, 0.25, None), (False, True), ((4.0, "sigmoid", True), (1.0, "triangle", False))
    )
]
DTYPES = [torch.float32, torch.bfloat16]
STEPS, SIZE = 4, 1003
every_setting = pytest.mark.parametrize(("dynamics", "dtype"), list(itertools.product(NEURONS, DTYPES)))


def currents(dtype, steps=STEPS):
    """Currents and upstream gradients [T, N]; some potentials hit the threshold exactly."""
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.randn(steps, SIZE, generator=generator)
    x[0, :9] = 1.0
    upstream = torch.randn(steps, SIZE, generator=generator)
    return x.to(DEVICE, dtype), upstream.to(DEVICE, dtype)


def close(ours, theirs, dtype):
    torch.testing.assert_close(ours, theirs, rtol=1e-5 if dtype == torch.float32 else 1e-2, atol=2e-6)


@every_setting
def test_forward_and_backward(dynamics, dtype):
    x, upstream = currents(dtype)
    assert launch.is_usable(x)
    spikes, potential = plain.integrate(x, dynamics)
    (expected,) = plain.differentiate(upstream, potential, dynamics)
    ours, ours_potential = lif.integrate(x, dynamics)
    gradient = lif.differentiate(upstream, ours_potential, dynamics)
    assert ours.dtype == gradient.dtype == dtype and ours_potential.dtype == torch.float32
    assert torch.equal(ours, spikes)
    torch.testing.assert_close(ours_potential, potential, rtol=0, atol=1e-6)
    close(gradient, expected, dtype)


@every_setting
@pytest.mark.parametrize("steps", [1, STEPS])
def test_statistics_of_rate_based_backpropagation(dynamics, dtype, steps):
    x, _ = currents(dtype, steps)
    spikes, mean_rate, eligibility = plain.spike_statistics(x, dynamics)
    ours, ours_rate, ours_eligibility = rate.spike_statistics(x, dynamics)
    assert ours.dtype == dtype and ours_rate.dtype == ours_eligibility.dtype == torch.float32
    assert torch.equal(ours, spikes)
    torch.testing.assert_close(ours_rate, mean_rate, rtol=0, atol=1e-7)
    torch.testing.assert_close(ours_eligibility, eligibility, rtol=1e-5, atol=2e-6)


def test_the_layer_uses_the_kernels(monkeypatch):
    calls = []
    for module, name in ((lif, "integrate"), (lif, "differentiate"), (rate, "spike_statistics")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, real=real, name=name: (calls.append(name), real(*args))[1])
    x = currents(torch.float32)[0].requires_grad_()
    layer = LIF(NeuronConfig(), STEPS)
    layer(x.flatten(0, 1)).sum().backward()
    layer.rate_statistics(x.detach())
    assert x.grad.any() and calls == ["integrate", "differentiate", "spike_statistics"]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_compiled_layer_keeps_the_kernels(monkeypatch, memory_format):
    calls = []
    for name in ("integrate", "differentiate"):
        real = getattr(lif, name)
        monkeypatch.setattr(lif, name, lambda *args, real=real, name=name: (calls.append(name), real(*args))[1])
    layer = LIF(NeuronConfig(reset="soft", detach_reset=True, surrogate="triangle", alpha=1.0), STEPS)
    x = 2 * torch.randn(2 * STEPS, 5, 3, 4, generator=torch.Generator().manual_seed(3))
    x = x.to(DEVICE, memory_format=memory_format)
    results = []
    for run in (layer, torch.compile(layer, backend="aot_eager", dynamic=False)):
        leaf = x.clone().requires_grad_()
        spikes = run(leaf)
        spikes.square().sum().backward()
        results.append((spikes, leaf.grad))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])
    assert results[0][0].stride() == results[1][0].stride()
    assert calls == 2 * ["integrate", "differentiate"]


def test_compiled_statistics_of_rate_based_backpropagation():
    layer = LIF(NeuronConfig(), STEPS)
    x = currents(torch.float32)[0]
    compiled = torch.compile(layer.rate_statistics, backend="aot_eager", dynamic=False)
    assert all(torch.equal(a, b) for a, b in zip(compiled(x), layer.rate_statistics(x), strict=True))
