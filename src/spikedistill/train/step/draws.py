"""Random numbers that a loss needs for the samples of a step."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from spikedistill.data.loading.rng import derived_seed
from spikedistill.train.objective import Batch

Distribution = Literal["normal", "uniform"]


class Draws:
    """Draws numbers for the global batch, once per step, so that they are the same on any number of ranks.

    They are a function of seed, epoch, step and name. The numbers of each step overwrite those of the step before in place: a
    CUDA graph that reads them gets the new ones, once `renew` was called.
    """

    def __init__(self, seed: int) -> None:
        """Draw nothing yet."""
        self._seed = seed
        self._drawn: dict[str, tuple[Distribution, Tensor]] = {}
        self._moment: tuple[int, int] | None = None

    def renew(self, batch: Batch) -> None:
        """Redraw everything that was drawn before, for the step of a batch; do nothing if this was done already."""
        if self._moment != (batch.epoch, batch.step):
            self._moment = (batch.epoch, batch.step)
            for name in self._drawn:
                self._draw(name)

    def get(self, name: str, distribution: Distribution, like: Tensor, batch: Batch) -> Tensor:
        """Return numbers for the samples of a batch.

        Args:
            name: name of the numbers; different names give different numbers.
            distribution: standard normal, or uniform in [0, 1).
            like: a tensor [B, N] of the wanted number of columns, dtype and device.
            batch: the samples; they may be a part of those of the step.

        Returns:
            Numbers [B, N], this batch's rows of those of the global batch; the next step overwrites them.
        """
        self.renew(batch)
        shape = (batch.global_size, like.shape[-1])
        known = self._drawn.get(name)
        if known is None or known[1].shape != shape or known[1].dtype != like.dtype or known[1].device != like.device:
            self._drawn[name] = (distribution, torch.empty(shape, dtype=like.dtype, device=like.device))
            self._draw(name)
        return self._drawn[name][1][batch.first : batch.first + len(batch.labels)]

    def _draw(self, name: str) -> None:
        assert self._moment is not None
        distribution, numbers = self._drawn[name]
        generator = torch.Generator(numbers.device).manual_seed(derived_seed(name, self._seed, *self._moment))
        if distribution == "normal":
            numbers.normal_(generator=generator)
        else:
            numbers.uniform_(generator=generator)
