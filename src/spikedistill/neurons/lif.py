"""The leaky integrate-and-fire neuron over all time steps at once, with its exact backward pass in closed form.

`neurons.dynamics` has the equations, `neurons.execution` selects the implementation for each device. Letters: T step, B batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikedistill.neurons import execution
from spikedistill.neurons.dynamics import Dynamics, differentiate, integrate, potentials_after_reset, spike_statistics
from spikedistill.neurons.kernels import launch, operators
from spikedistill.neurons.neuron import SpikingNeuron
from spikedistill.neurons.settings import NeuronConfig, Surrogate


def lif(
    x_seq: Tensor,
    *,
    decay: float,
    threshold: float,
    v_reset: float | None,
    detach_reset: bool,
    alpha: float,
    surrogate: Surrogate = "sigmoid",
    spike_at_threshold: bool = True,
) -> Tensor:
    """Return the spikes of a layer of LIF neurons that starts at rest; differentiable once.

    Args:
        x_seq: input current [T, B, ...]; float16 and bfloat16 are integrated in float32.
        decay: share of the membrane potential kept per step, in [0, 1).
        threshold: membrane potential at which a neuron fires.
        v_reset: potential after a spike (hard reset); None subtracts the threshold (soft reset).
        detach_reset: treat the spike in the reset as a constant in backward.
        alpha: slope of the surrogate gradient.
        surrogate: shape of the surrogate gradient, see `neurons.surrogate`.
        spike_at_threshold: whether a potential that equals the threshold fires.

    Returns:
        Spikes, 0 or 1, of the shape and dtype of `x_seq`.
    """
    return _Lif.apply(x_seq, Dynamics(decay, threshold, v_reset, detach_reset, alpha, surrogate, spike_at_threshold), False)


class _Lif(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_seq: Tensor, dynamics: Dynamics, compiled: bool) -> Tensor:
        ctx.dynamics, ctx.compiled = dynamics, compiled
        if torch.compiler.is_compiling() and not launch.is_usable(x_seq):
            spikes, potential = integrate(x_seq, dynamics)
            ctx.save_for_backward(potential)
            return spikes
        ctx.layout = execution.Layout(x_seq)
        x = ctx.layout.flatten(x_seq)
        if launch.is_usable(x):
            spikes, potential = operators.integrate(x, dynamics)
        else:
            spikes, potential = execution.run(integrate, [x], dynamics, compiled=compiled)
        ctx.save_for_backward(potential)
        return ctx.layout.restore(spikes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (potential,) = ctx.saved_tensors
        if torch.compiler.is_compiling() and not launch.is_usable(gradients[0]):
            return differentiate(gradients[0], potential, ctx.dynamics)[0], None, None
        upstream = ctx.layout.flatten(gradients[0])
        if launch.is_usable(upstream):
            grad_x = operators.differentiate(upstream, potential, ctx.dynamics)
        else:
            (grad_x,) = execution.run(differentiate, [upstream, potential], ctx.dynamics, compiled=ctx.compiled)
        return ctx.layout.restore(grad_x), None, None


class LIF(SpikingNeuron):
    """A layer of LIF neurons; it has no parameters."""

    label = "lif"

    def __init__(self, neuron: NeuronConfig, time_steps: int) -> None:
        """Create a layer that runs `time_steps` steps per forward."""
        super().__init__(neuron, time_steps)
        self.dynamics = Dynamics.from_config(neuron)  # the same parameters, as the equations take them

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes [T * B, ...] of the currents [T * B, ...]."""
        return _Lif.apply(x.unflatten(0, (self.time_steps, -1)), self.dynamics, self.compiled).flatten(0, 1)

    def potentials(self, x: Tensor, spikes: Tensor) -> Iterator[Tensor]:
        """Return the potentials after each step."""
        return potentials_after_reset(x, spikes, self.dynamics)

    def rate_statistics(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the spikes [T, B, ...], mean firing rate and eligibility [B, ...] of the currents [T, B, ...]."""
        layout = execution.Layout(x)
        flat = layout.flatten(x)
        if launch.is_usable(flat):
            spikes, rate, eligibility = operators.spike_statistics(flat, self.dynamics)
        else:
            spikes, rate, eligibility = execution.run(spike_statistics, [flat], self.dynamics, compiled=self.compiled)
        return layout.restore(spikes), layout.restore(rate), layout.restore(eligibility)

    def equivalent_lif(self) -> NeuronConfig:
        """Return its configuration."""
        return self.neuron
