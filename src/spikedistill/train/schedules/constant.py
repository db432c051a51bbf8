"""The peak learning rate throughout."""

from __future__ import annotations

from spikedistill.components import ComponentParams
from spikedistill.train.schedules.position import Position


class Params(ComponentParams):
    """No parameters."""


def factor(position: Position, params: Params) -> float:
    """Return the learning rate as a share of its peak."""
    return 1.0
