"""Every way to compute the neuron on a CPU gives the same: plain and compiled. For the kernels, see `test_kernels.py`."""

import itertools

import pytest
import torch

from spikedistill.neurons import execution
from spikedistill.neurons.dynamics import Dynamics, differentiate, integrate, potentials_after_reset, spike_statistics
from spikedistill.neurons.lif import LIF
from spikedistill.neurons.settings import NeuronConfig

NEURONS = [
    Dynamics(0.5, 1.0, v_reset, detach_reset, alpha, surrogate, spike_at_threshold)
    for v_reset, detach_reset, (alpha, surrogate, spike_at_threshold) in itertools.product(
        (0.0, 0.25, None), (False, True), ((4.0, "sigmoid", True), (1.0, "triangle", False))
    )
]
STEPS, SIZE = 4, 1003


def currents(dtype=torch.float32):
    """Currents and upstream gradients [T, N]; some potentials hit the threshold exactly."""
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.randn(STEPS, SIZE, generator=generator)
    x[0, :9] = 1.0
    return x.to(dtype), torch.randn(STEPS, SIZE, generator=generator).to(dtype)


def calls(dynamics, dtype=torch.float32):
    """Each function with its inputs and what it gives."""
    x, upstream = currents(dtype)
    potential = integrate(x, dynamics)[1]
    for function, inputs in ((integrate, [x]), (differentiate, [upstream, potential]), (spike_statistics, [x])):
        yield function, inputs, function(*inputs, dynamics)


@pytest.mark.parametrize("dynamics", NEURONS)
def test_potentials_after_reset_lead_from_one_potential_to_the_next(dynamics):
    x, _ = currents()
    spikes, potential = integrate(x, dynamics)
    after = torch.stack(list(potentials_after_reset(x, spikes, dynamics)))
    assert torch.equal(potential[1:], torch.add(x[1:], after[:-1], alpha=dynamics.decay))


@pytest.mark.parametrize(("dynamics", "dtype"), [(NEURONS[0], torch.float32), (NEURONS[-1], torch.bfloat16)])
def test_compiled_code_gives_the_same_spikes_and_gradients(dynamics, dtype):
    for function, inputs, expected in calls(dynamics, dtype):
        found = execution.run(function, inputs, dynamics, compiled=True)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.dtype == theirs.dtype
            torch.testing.assert_close(ours, theirs, rtol=1e-5 if dtype == torch.float32 else 1e-2, atol=1e-6)
        if function is integrate:
            assert torch.equal(found[0], expected[0])


@pytest.mark.parametrize("shape", [(STEPS * 2, 3, 5, 7), (STEPS * 2, 6), (STEPS,)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_layer_keeps_the_memory_format_and_its_values(shape, memory_format):
    if len(shape) != 4 and memory_format == torch.channels_last:
        return
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    upstream = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    layer = LIF(NeuronConfig(threshold=0.3), STEPS)
    plain, laid_out = x.clone().requires_grad_(), x.clone(memory_format=memory_format).requires_grad_()
    expected = integrate(x.unflatten(0, (STEPS, -1)), layer.dynamics)[0].flatten(0, 1)
    for given in (plain, laid_out):
        spikes = layer(given)
        spikes.backward(upstream)
        assert torch.equal(spikes, expected)
        assert spikes.stride() == given.stride()
    assert 0 < expected.mean() < 1
    torch.testing.assert_close(plain.grad, laid_out.grad, rtol=0, atol=1e-6)
