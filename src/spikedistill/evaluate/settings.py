"""What an evaluation assumes, and the names of its files. Imports no torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

EVALUATION, EXAMPLES = "evaluation.json", "examples.npz"
LARGEST_BATCH = 256


class EnergyConfig(BaseModel):
    """Energy of one arithmetic operation, without memory access or data movement.

    The defaults are those that most papers on spiking networks use: 32-bit floating point in a 45 nm process, from M. Horowitz,
    "Computing's energy problem (and what we can do about it)", ISSCC 2014, https://doi.org/10.1109/ISSCC.2014.6757323.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pj_per_mac: float = Field(
        4.6, ge=0, description="Energy of a multiplication and an addition in pJ (32-bit float, 45 nm: 3.7 + 0.9, Horowitz 2014)."
    )
    pj_per_ac: float = Field(
        0.9, ge=0, description="Energy of an addition in pJ, which is all that a spike costs at a synapse (Horowitz 2014)."
    )


class EvaluateConfig(BaseModel):
    """How trained networks are measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    energy: EnergyConfig = Field(default_factory=EnergyConfig, description="Energy of one operation.")
