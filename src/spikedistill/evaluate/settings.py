"""The configuration of evaluations, and the names of their files. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from spikedistill.components import Section

EVALUATION, EXAMPLES, PREDICTIONS = "evaluation.json", "examples.npz", "predictions.npz"
MAX_BATCH_SIZE = 256


class EnergyConfig(Section):
    """Energy of one arithmetic operation, without memory access or data movement.

    The defaults are those of most papers on spiking networks: 32-bit floating point in a 45 nm process, from M. Horowitz,
    "Computing's energy problem (and what we can do about it)", ISSCC 2014, https://doi.org/10.1109/ISSCC.2014.6757323.
    """

    pj_per_mac: float = Field(
        4.6, ge=0, description="Energy of a multiply-accumulate in pJ (32-bit float, 45 nm: 3.7 + 0.9, Horowitz 2014)."
    )
    pj_per_ac: float = Field(
        0.9, ge=0, description="Energy of an addition in pJ: the cost of one spike at one synapse (32-bit float, Horowitz 2014)."
    )


class EvaluateConfig(Section):
    """The measurement of trained networks."""

    energy: EnergyConfig = Field(default_factory=EnergyConfig, description="Energy of one operation.")
