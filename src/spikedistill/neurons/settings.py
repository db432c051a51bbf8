"""The parameters of the spiking neuron. Imports no torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from spikedistill.components import Section

Surrogate = Literal["sigmoid", "triangle"]


class NeuronConfig(Section):
    """A leaky integrate-and-fire neuron: h = decay * v + x, a spike at the threshold, then a reset."""

    FORMER_KEYS: ClassVar[dict[str, str]] = {
        "fires": "is called spike_at_threshold now: true for what was `at`, false for `above`",
    }

    decay: float = Field(0.5, ge=0, lt=1, description="Share of the membrane potential that is kept from step to step (lambda).")
    threshold: float = Field(1.0, gt=0, description="Membrane potential at which the neuron fires.")
    spike_at_threshold: bool = Field(
        True, description="Whether a potential that equals the threshold fires; CKDSNN's neuron, which needs more, has false."
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
        description="Slope of the surrogate gradient, which is alpha / 4 high for sigmoid, and alpha high and 2 / alpha wide for "
        "triangle.",
    )
