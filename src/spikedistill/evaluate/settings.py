"""The configuration of evaluations, and the names of their files. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from spikedistill.components import Section

EVALUATION, EXAMPLES, PREDICTIONS = "evaluation.json", "examples.npz", "predictions.npz"


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


_Share = Annotated[float, Field(ge=0, le=1)]
_Deviation = Annotated[float, Field(ge=0, le=10)]
_Mean = Annotated[float, Field(ge=0, le=100)]


class CorruptionConfig(Section):
    """Corruptions by which robustness is measured: for each strength, the accuracy on all test samples corrupted by it.

    They change samples as stored, before resizing and normalisation. All networks see the same corrupted samples. A kind that
    does not fit a dataset is left out there; one that fits no dataset of the configuration is an error.
    """

    KINDS: ClassVar[dict[str, Literal["images", "frames"]]] = {
        "noise": "images",
        "occlude": "images",
        "contrast": "images",
        "drop_events": "frames",
        "noise_events": "frames",
    }

    noise: tuple[_Deviation, ...] = Field(
        (), description="Images: standard deviations of Gaussian noise, in units of pixel values from 0 to 1."
    )
    occlude: tuple[_Share, ...] = Field(
        (), description="Images: sides of a square of zeros at a random place, as shares of the shorter side of the image."
    )
    contrast: tuple[_Share, ...] = Field(
        (), description="Images: shares of the contrast that are lost; 1 leaves the mean colour."
    )
    drop_events: tuple[_Share, ...] = Field((), description="Event frames: probabilities that an event is dropped.")
    noise_events: tuple[_Mean, ...] = Field(
        (), description="Event frames: mean numbers of spurious events per pixel, polarity and frame (Poisson)."
    )

    @field_validator("*", mode="before")
    @classmethod
    def _check_list(cls, value: object) -> object:
        if isinstance(value, int | float):
            raise ValueError(f"a list of strengths is expected: [{value}]")
        return value

    @field_validator("*")
    @classmethod
    def _check_repeats(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(value)) != len(value):
            raise ValueError("each strength may appear once")
        return value

    def chosen(self) -> Iterator[tuple[str, float]]:
        """Yield kind and strength of each corruption."""
        for kind in self.KINDS:
            for strength in getattr(self, kind):
                yield kind, strength

    def fitting(self, data_kind: str) -> CorruptionConfig:
        """Return the corruptions that fit "images" or "frames"."""
        return CorruptionConfig(**{kind: getattr(self, kind) for kind, fits in self.KINDS.items() if fits == data_kind})

    def problems(self, data_kinds: set[str]) -> Iterator[tuple[str, str]]:
        """Yield the keys that fit no dataset, given the kinds of all of them, each with the reason."""
        what = {
            "images": "is for images, and all datasets are event frames",
            "frames": "is for event frames, and all datasets are images",
        }
        for kind, fits in self.KINDS.items():
            if getattr(self, kind) and fits not in data_kinds:
                yield kind, f"{what[fits]}; delete the key"


class EvaluateConfig(Section):
    """The measurement of trained networks."""

    energy: EnergyConfig = Field(default_factory=EnergyConfig, description="Energy of one operation.")
    corruptions: CorruptionConfig = Field(
        default_factory=CorruptionConfig,
        description="Corruptions of test samples by which robustness is measured; none by default.",
    )

    def fitting(self, data_kind: str) -> EvaluateConfig:
        """Return the settings without what does not fit the data, which are "images" or "frames"."""
        return self.model_copy(update={"corruptions": self.corruptions.fitting(data_kind)})
