"""The parameters of the spiking neuron. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from spikedistill.components import Choice, Kind

Surrogate = Literal["sigmoid", "triangle"]
Encoding = Literal["direct", "poisson", "latency"]
"""How an image is presented to a student's first layer: itself at every step, or as spikes (see `neurons.encoding`)."""


class NeuronConfig(Choice):
    """The spiking neuron; by default leaky integrate-and-fire: h = decay * v + x, a spike at the threshold, then a reset."""

    KIND: ClassVar[Kind] = "neurons.kinds"
    FORMER_KEYS: ClassVar[dict[str, str]] = {
        "fires": "is called spike_at_threshold now: true for what was `at`, false for `above`",
    }

    name: str = Field(
        "lif", description="Neuron: a name that `spikedistill list neurons` shows; or spikingjelly/NAME, such as QIFNode."
    )
    decay: float = Field(0.5, ge=0, lt=1, description="Share of the membrane potential that is kept from step to step (lambda).")
    threshold: float = Field(1.0, gt=0, description="Membrane potential at which the neuron fires.")
    spike_at_threshold: bool = Field(
        True, description="Whether a potential equal to the threshold fires; false for CKDSNN's neuron, which has to exceed it."
    )
    reset: Literal["hard", "soft"] = Field(
        "hard", description="After a spike: hard sets the potential to 0, soft subtracts the threshold."
    )
    detach_reset: bool = Field(False, description="Treat the spike in the reset as a constant in the backward pass.")
    surrogate: Surrogate = Field(
        "sigmoid",
        description="Surrogate gradient of a spike: the derivative of a sigmoid, or a triangle (CKDSNN, with alpha 1).",
    )
    alpha: float = Field(
        4.0,
        gt=0,
        description="Slope of the surrogate gradient: its peak is alpha / 4 for sigmoid; for triangle it is alpha, with a "
        "width of 2 / alpha.",
    )


COMMON_KEYS = frozenset(NeuronConfig.model_fields) - {"name", "params"}
"""Keys of `neuron` that several neurons use; each says which in its `USES`."""


def neuron_problems(neuron: NeuronConfig) -> Iterator[tuple[str, str]]:
    """Yield the keys that do not fit a neuron whose name and parameters are valid, each with the reason."""
    component = neuron.component
    for key in sorted((COMMON_KEYS - component.USES) & neuron.model_fields_set):
        if getattr(neuron, key) != NeuronConfig.model_fields[key].default:
            used = ", ".join(sorted(component.USES)) or "none of the common keys"
            yield key, f"has no effect on {neuron.name!r}, which uses {used}; its own parameters belong under params"
    if hasattr(component, "problems"):
        yield from component.problems(neuron, neuron.checked_params)
