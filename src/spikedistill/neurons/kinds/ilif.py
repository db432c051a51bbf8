"""Integer LIF: up to D spikes in a step; integers in training, that many binary spikes at inference (arXiv 2407.20708).

    h[t] = decay * v[t-1] + x[t]
    s[t] = round(clip(h[t] / threshold, 0, D))     ds/dh = 1 / threshold where 0 <= h / threshold <= D, else 0
    v[t] = h[t] - threshold * s[t]

(Luo et al. 2024, "Integer-Valued Training and Spike-Driven Inference Spiking Neural Network", the section on I-LIF; there, the
threshold is 1.) At inference a step of s[t] spikes stands for D steps of binary spikes, s[t] of which are 1: the weighted sum
is the same, W s[t], from s[t] additions instead of a multiplication. Networks therefore run on the integers throughout, and
energy counts every unit as one spike. The authors' code has a decay of 0.25 and D = 4.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from spikedistill.components import ComponentParams
from spikedistill.lazy import torch
from spikedistill.neurons.settings import NeuronConfig

if TYPE_CHECKING:
    from spikedistill.neurons.stepwise import State, StepwiseNeuron

USES = frozenset({"decay", "threshold", "detach_reset"})
SUPPORTS: frozenset[str] = frozenset()


class Params(ComponentParams):
    """The reset is soft, and the surrogate gradient a rectangle."""

    most_spikes: int = Field(4, ge=1, le=255, description="Maximum number of spikes of a neuron in one step, D.")


def build(neuron: NeuronConfig, params: Params, time_steps: int) -> StepwiseNeuron:
    """Return a layer without parameters."""
    from spikedistill.neurons.stepwise import StepwiseNeuron

    run = functools.partial(step, neuron=neuron, most_spikes=params.most_spikes)
    return StepwiseNeuron(neuron, time_steps, run, label="ilif", most_spikes=params.most_spikes)


def step(
    x: torch.Tensor, state: State, weights: Mapping[str, torch.Tensor], *, neuron: NeuronConfig, most_spikes: int
) -> tuple[torch.Tensor, State]:
    """Return numbers of spikes, and potentials, of one step, [B, ...] each."""
    h = neuron.decay * state[0] + x
    clipped = (h / neuron.threshold).clamp(0, most_spikes)
    spikes = clipped + (clipped.round() - clipped).detach()  # the gradient of the clipping
    spent = spikes.detach() if neuron.detach_reset else spikes
    return spikes, (h - neuron.threshold * spent,)
