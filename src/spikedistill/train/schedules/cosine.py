"""Half a cosine from the peak towards 0 (Loshchilov and Hutter 2017, without restarts)."""

from __future__ import annotations

import math

from pydantic import Field

from spikedistill.components import ComponentParams
from spikedistill.train.schedules.position import Position


class Params(ComponentParams):
    """factor = minimum + (1 - minimum) * (1 + cos(pi * progress)) / 2."""

    minimum: float = Field(0.0, ge=0, le=1, description="What the cosine ends at, as a share of the peak.")


def factor(position: Position, params: Params) -> float:
    """Return the learning rate as a share of its peak."""
    return params.minimum + (1 - params.minimum) * (0.5 * (1 + math.cos(math.pi * position.progress)))
