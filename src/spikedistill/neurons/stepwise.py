"""Neurons that are written as one time step, in plain torch operations; autograd differentiates them.

The step is a pure function in the neuron's file. Letters: T step, B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spikedistill.neurons.dynamics import to_float32
from spikedistill.neurons.neuron import SpikingNeuron
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.neurons.surrogate import DERIVATIVES

State = tuple[Tensor, ...]
"""State of neurons between steps, [B, ...] each: the membrane potential, then whatever else a neuron keeps."""
Step = Callable[[Tensor, State, Mapping[str, Tensor]], tuple[Tensor, State]]
"""One time step: (input current [B, ...], state, learnable parameters) -> (spikes [B, ...], next state)."""


class StepwiseNeuron(SpikingNeuron):
    """A layer of neurons that repeats one step T times."""

    def __init__(
        self,
        neuron: NeuronConfig,
        time_steps: int,
        step: Step,
        *,
        rest: Sequence[float] = (0.0,),
        learnable: Mapping[str, float] | None = None,
        label: str = "neuron",
        most_spikes: int = 1,
        equivalent_lif: Callable[[Mapping[str, Tensor]], NeuronConfig | None] = lambda weights: None,
    ) -> None:
        """Create a layer.

        Args:
            neuron: the configuration.
            time_steps: T.
            step: one time step; gets float32, or float64.
            rest: values of the state before the first step, the membrane potential first.
            learnable: name and initial value of each number that the layer learns.
            label: see `SpikingNeuron`.
            most_spikes: see `SpikingNeuron`.
            equivalent_lif: the LIF neuron with the same spikes, given what the layer has learnt.
        """
        super().__init__(neuron, time_steps)
        self.label, self.most_spikes = label, most_spikes
        self._step, self._rest, self._equivalent_lif = step, tuple(rest), equivalent_lif
        for name, value in (learnable or {}).items():
            self.register_parameter(name, nn.Parameter(torch.tensor(value)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes [T * B, ...] of the currents [T * B, ...]."""
        spikes = [fired for fired, _ in self._run(x.unflatten(0, (self.time_steps, -1)))]
        return torch.stack(spikes).to(x.dtype).flatten(0, 1)

    def potentials(self, x: Tensor, spikes: Tensor) -> Iterator[Tensor] | None:
        """Return the potentials after each step; the spikes are computed again."""
        return (state[0] for _, state in self._run(x))

    def equivalent_lif(self) -> NeuronConfig | None:
        """Return the LIF neuron that fires the same spikes; None if there is none."""
        return self._equivalent_lif(self._weights)

    @property
    def _weights(self) -> Mapping[str, Tensor]:
        return dict(self.named_parameters(recurse=False))

    def _run(self, x: Tensor) -> Iterator[tuple[Tensor, State]]:
        """Yield spikes and state after each step of the currents [T, B, ...]."""
        weights = self._weights
        first = to_float32(x[0])
        state: State = tuple(torch.full_like(first, value) for value in self._rest)
        for x_t in x.unbind(0):
            spikes, state = self._step(to_float32(x_t), state, weights)
            yield spikes, state


def fire(excess: Tensor, neuron: NeuronConfig) -> Tensor:
    """Return the spikes, 0 or 1, of potentials minus thresholds, with the configured surrogate gradient in backward.

    Args:
        excess: potential minus threshold, any shape.
        neuron: says which surrogate gradient, and whether an excess of 0 fires.
    """
    return _Fire.apply(excess, neuron.surrogate, neuron.alpha, neuron.spike_at_threshold)


def reset(potential: Tensor, spikes: Tensor, threshold: float | Tensor, neuron: NeuronConfig) -> Tensor:
    """Return potentials after the configured reset: to 0 (hard), or by subtraction of the threshold (soft)."""
    fired = spikes.detach() if neuron.detach_reset else spikes
    return (1 - fired) * potential if neuron.reset == "hard" else potential - fired * threshold


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, excess: Tensor, surrogate: str, alpha: float, at_threshold: bool) -> Tensor:
        ctx.save_for_backward(excess)
        ctx.surrogate, ctx.alpha = surrogate, alpha
        return (excess >= 0 if at_threshold else excess > 0).to(excess.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (excess,) = ctx.saved_tensors
        return DERIVATIVES[ctx.surrogate](excess, 0.0, ctx.alpha) * gradients[0], None, None, None
