"""A leaky integrate-and-fire neuron whose input is a current that decays, too."""

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

USES = COMMON_KEYS  # keys of `neuron` that have an effect here: decay, threshold, reset, ...
SUPPORTS: frozenset[str] = frozenset()  # "rate": backward: rate, "nir": export to NIR; see SpikingNeuron


class Params(ComponentParams):
    """Parameters of this neuron alone, `neuron.params`."""

    current_decay: float = Field(0.5, ge=0, lt=1, description="Share of the current that is kept from step to step.")


def build(neuron: NeuronConfig, params: Params, time_steps: int) -> StepwiseNeuron:
    """Return a layer; its state is the potential and the current, both 0 at rest."""
    from spikedistill.neurons.stepwise import StepwiseNeuron

    run = functools.partial(step, neuron=neuron, params=params)
    return StepwiseNeuron(neuron, time_steps, run, rest=(0.0, 0.0), label="mine")


def step(
    x: torch.Tensor, state: State, weights: Mapping[str, torch.Tensor], *, neuron: NeuronConfig, params: Params
) -> tuple[torch.Tensor, State]:
    """Return the spikes and the state after one step, [B, ...] each."""
    from spikedistill.neurons.stepwise import fire, reset

    current = params.current_decay * state[1] + x
    h = neuron.decay * state[0] + current
    spikes = fire(h - neuron.threshold, neuron)
    return spikes, (reset(h, spikes, neuron.threshold, neuron), current)
