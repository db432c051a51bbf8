"""Steps: the learning rate is multiplied by gamma at each milestone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, field_validator

from spikedistill.components import ComponentParams
from spikedistill.train.schedules.position import Position

Milestone = Annotated[int, Field(ge=1)]


class Params(ComponentParams):
    """factor = gamma ** (number of milestones that are reached)."""

    milestones: tuple[Milestone, ...] | None = Field(
        None, description="Epochs after which the rate is multiplied, rising. Default: after half and three quarters of them."
    )
    gamma: float = Field(0.1, gt=0, lt=1, description="Factor of each step.")

    @field_validator("milestones")
    @classmethod
    def _rise(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (not value or list(value) != sorted(set(value))):
            raise ValueError("expected at least one epoch, and each above the one before")
        return value


def problems(params: Params, epochs: int) -> Iterator[tuple[str, str]]:
    """Yield the parameters that do not fit the number of epochs, each with the reason."""
    late = [milestone for milestone in params.milestones or () if milestone >= epochs]
    if late:
        yield "milestones", f"{', '.join(map(str, late))} would never be reached: train.epochs is {epochs}"


def factor(position: Position, params: Params) -> float:
    """Return the learning rate as a share of its peak."""
    halves = (0.5 * position.epochs, 0.75 * position.epochs)
    return params.gamma ** sum(position.epoch >= milestone for milestone in params.milestones or halves)
