"""Parametric LIF: each layer learns its decay (Fang et al. 2021, arXiv 2007.05785).

    decay = 1 - sigmoid(w)                  w is learnt; sigmoid(w) is 1 / tau of the paper
    h[t] = decay * v[t-1] + x[t]            with `decay_input`: decay * v[t-1] + (1 - decay) * x[t], as in the paper

Spike and reset are those of LIF. In evaluation it is a LIF neuron.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from spikedistill.components import ComponentParams
from spikedistill.lazy import torch
from spikedistill.neurons.settings import COMMON_KEYS, NeuronConfig

if TYPE_CHECKING:
    from spikedistill.neurons.stepwise import State, StepwiseNeuron

USES = COMMON_KEYS
SUPPORTS = frozenset({"nir"})


class Params(ComponentParams):
    """`neuron.decay` is the initial decay of every layer; training changes it."""

    decay_input: bool = Field(
        False, description="Multiply the input by 1 - decay, as the equations of the paper do; LIF takes it as it is."
    )


def problems(neuron: NeuronConfig, params: Params) -> Iterator[tuple[str, str]]:
    """Yield the keys of `neuron` that do not fit, each with the reason."""
    if neuron.decay <= 0:
        yield "decay", "must be above 0 for plif: a sigmoid, which the learnt decay comes from, never reaches 0"


def build(neuron: NeuronConfig, params: Params, time_steps: int) -> StepwiseNeuron:
    """Return a layer with one learnable number, `w`."""
    from spikedistill.neurons.stepwise import StepwiseNeuron

    return StepwiseNeuron(
        neuron,
        time_steps,
        functools.partial(step, neuron=neuron, decay_input=params.decay_input),
        learnable={"w": math.log1p(-neuron.decay) - math.log(neuron.decay)},
        label="plif",
        equivalent_lif=functools.partial(_equivalent_lif, neuron, params),
    )


def step(
    x: torch.Tensor, state: State, weights: Mapping[str, torch.Tensor], *, neuron: NeuronConfig, decay_input: bool
) -> tuple[torch.Tensor, State]:
    """Return spikes and potentials of one step, [B, ...] each."""
    from spikedistill.neurons.stepwise import fire, reset

    share = weights["w"].sigmoid()
    h = (1 - share) * state[0] + (share * x if decay_input else x)
    spikes = fire(h - neuron.threshold, neuron)
    return spikes, (reset(h, spikes, neuron.threshold, neuron),)


def _equivalent_lif(neuron: NeuronConfig, params: Params, weights: Mapping[str, torch.Tensor]) -> NeuronConfig:
    """Return the LIF neuron with the learnt decay; if the input is scaled, the threshold is divided by the scale instead."""
    share = float(weights["w"].detach().double().sigmoid())
    threshold = neuron.threshold / share if params.decay_input else neuron.threshold
    return neuron.model_copy(update={"name": "lif", "params": {}, "decay": 1 - share, "threshold": threshold})
