"""What every schedule promises."""

from __future__ import annotations

import math
from types import ModuleType

from spikedistill.contract.findings import require, require_description
from spikedistill.train.schedules.position import Position


def describes_itself(schedule: ModuleType) -> None:
    """The file and every parameter are described."""
    require_description(schedule, "schedule")


def factors_are_shares_of_the_peak(schedule: ModuleType) -> None:
    """At every position of short and long runs, the factor is a finite number that is not negative."""
    for epochs in (1, 2, 7, 300):
        for position in _positions(epochs):
            found = schedule.factor(position, schedule.Params())
            fine = isinstance(found, int | float) and math.isfinite(found) and found >= 0
            require(fine, f"epoch {position.epoch} of {epochs}: a number from 0; found {found!r}")


def it_is_a_function_of_the_position_alone(schedule: ModuleType) -> None:
    """Positions in any order, and twice, have the same factors, so that a run resumes anywhere."""
    params, positions = schedule.Params(), _positions(7)
    forward = [schedule.factor(position, params) for position in positions]
    backward = [schedule.factor(position, params) for position in reversed(positions)]
    require(forward == backward[::-1], "the factor of a position does not depend on what was asked before")


CHECKS = (describes_itself, factors_are_shares_of_the_peak, it_is_a_function_of_the_position_alone)
"""Checks of a schedule."""


def _positions(epochs: int) -> list[Position]:
    return [Position(step / (4 * epochs), step / 4, epochs) for step in range(4 * epochs)]
