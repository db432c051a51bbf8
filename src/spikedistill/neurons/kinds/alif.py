"""Adaptive LIF: every spike raises the threshold for a while (Bellec et al. 2018, arXiv 1803.09574).

    h[t] = decay * v[t-1] + x[t]
    s[t] = 1 where h[t] >= threshold + beta * a[t-1]
    v[t] = 0 after a spike (hard), or h[t] - (threshold + beta * a[t-1]) * s[t] (soft, as in the paper)
    a[t] = rho * a[t-1] + (1 - rho) * s[t]          a[-1] = 0

The paper scales the input by 1 - decay; here, as in LIF, it is not scaled.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from spikedistill.components import ComponentParams
from spikedistill.lazy import torch
from spikedistill.neurons.settings import COMMON_KEYS, NeuronConfig

if TYPE_CHECKING:
    from spikedistill.neurons.stepwise import State, StepwiseNeuron

USES = COMMON_KEYS
SUPPORTS: frozenset[str] = frozenset()


class Params(ComponentParams):
    """How far and for how long a spike raises the threshold."""

    beta: float = Field(1.8, ge=0, description="Rise of the threshold of a neuron that fires at every step.")
    rho: float = Field(0.9, ge=0, lt=1, description="Share of the rise that is kept from step to step.")


def build(neuron: NeuronConfig, params: Params, time_steps: int) -> StepwiseNeuron:
    """Return a layer without parameters; it keeps the potential and the rise of the threshold from step to step."""
    from spikedistill.neurons.stepwise import StepwiseNeuron

    run = functools.partial(step, neuron=neuron, params=params)
    return StepwiseNeuron(neuron, time_steps, run, rest=(0.0, 0.0), label="alif")


def step(
    x: torch.Tensor, state: State, weights: Mapping[str, torch.Tensor], *, neuron: NeuronConfig, params: Params
) -> tuple[torch.Tensor, State]:
    """Return spikes, potentials and rises of the threshold after one step, [B, ...] each."""
    from spikedistill.neurons.stepwise import fire, reset

    v, rise = state
    h = neuron.decay * v + x
    threshold = neuron.threshold + params.beta * rise
    spikes = fire(h - threshold, neuron)
    return spikes, (reset(h, spikes, threshold, neuron), params.rho * rise + (1 - params.rho) * spikes)
