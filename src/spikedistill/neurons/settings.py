"""The parameters of the spiking neuron. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class NeuronConfig(BaseModel):
    """A leaky integrate-and-fire neuron: h = decay * v + x, a spike where h >= threshold, then a reset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decay: float = Field(0.5, ge=0, lt=1, description="Share of the membrane potential kept from step to step (lambda).")
    threshold: float = Field(1.0, gt=0, description="Membrane potential at which the neuron fires.")
    reset: Literal["hard", "soft"] = Field(
        "hard", description="After a spike: hard sets the potential to 0, soft subtracts the threshold."
    )
    detach_reset: bool = Field(False, description="Treat the spike in the reset as a constant in the backward pass.")
    alpha: float = Field(4.0, gt=0, description="Slope of the sigmoid whose derivative replaces that of the spike.")
