"""A polynomial from the peak down to 0."""

from __future__ import annotations

from pydantic import Field

from spikedistill.components import ComponentParams
from spikedistill.train.schedules.position import Position


class Params(ComponentParams):
    """factor = (1 - progress) ** power."""

    power: float = Field(0.9, gt=0, description="Power of the polynomial; 1 is a straight line.")


def factor(position: Position, params: Params) -> float:
    """Return the learning rate as a share of its peak: a function of the position alone, so that a run resumes anywhere."""
    return (1 - position.progress) ** params.power
