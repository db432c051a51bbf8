"""The shapes from which a method builds the layers that it trains along with the student. Imports no torch.

Letters: D channel, h and w height and width of a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

Left = TypeVar("Left")
Right = TypeVar("Right")


class MapShape(NamedTuple):
    """The shape [D, h, w] of the maps after one stage of a network."""

    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class Shapes:
    """The shapes of the networks of one experiment, as a method's `build` gets them.

    Attributes:
        student: shape of the maps after each stage of the student, in order.
        teacher: likewise of the teacher; empty for a method without one. A model of another library counts as one stage.
        time_steps: T.
        num_classes: C.
    """

    student: tuple[MapShape, ...]
    teacher: tuple[MapShape, ...]
    time_steps: int
    num_classes: int

    @property
    def pairs(self) -> list[tuple[MapShape, MapShape]]:
        """The stages of both networks that belong together, see `paired`."""
        return paired(self.student, self.teacher)


def paired(student: Sequence[Left], teacher: Sequence[Right]) -> list[tuple[Left, Right]]:
    """Return the pairs of stages of two networks, in order: last with last, and so on backwards.

    If one network has more stages, its first ones have no partner.
    """
    count = min(len(student), len(teacher))
    return list(zip(student[len(student) - count :], teacher[len(teacher) - count :], strict=True))
