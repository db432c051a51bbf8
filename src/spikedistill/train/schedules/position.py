"""Where training is, as a schedule sees it. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Position:
    """A moment after warm-up.

    Attributes:
        progress: share of the training after warm-up that is done, from 0 to below 1.
        epoch: epochs done since the start, warm-up included; a whole number with `per: epoch`.
        epochs: epochs of the whole run.
    """

    progress: float
    epoch: float
    epochs: int
