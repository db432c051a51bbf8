"""Leaky integrate-and-fire, the default: h = decay * v + x, a spike at the threshold, then a reset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spikedistill.components import ComponentParams
from spikedistill.neurons.settings import COMMON_KEYS, NeuronConfig

if TYPE_CHECKING:
    from spikedistill.neurons.lif import LIF

USES = COMMON_KEYS
SUPPORTS = frozenset({"rate", "nir"})


class Params(ComponentParams):
    """No parameters but those of `neuron` itself."""


def build(neuron: NeuronConfig, params: Params, time_steps: int) -> LIF:
    """Return a layer, computed by fused code where there is some (`neurons.execution`)."""
    from spikedistill.neurons.lif import LIF

    return LIF(neuron, time_steps)
