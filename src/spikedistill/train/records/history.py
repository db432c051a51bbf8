"""The metrics of every step of an epoch, kept on the device so that a step does not wait for it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from spikedistill.train.distributed import World


class History:
    """A table of metrics by step, float64: one row per name, one column per step that this process ran."""

    def __init__(self, num_steps: int, before: Mapping[str, Tensor] | None = None) -> None:
        """Make an empty table for one epoch.

        Args:
            num_steps: steps of the whole epoch.
            before: the result of `totals` for the steps that ran before an interruption.
        """
        self._num_steps = num_steps
        self._before = dict(before or {})
        self._start = next((len(row) for row in self._before.values()), 0)
        self._names: list[str] = []
        self._values = torch.empty(0)
        self._latest = (torch.empty(0), 0)
        self._copy: tuple[Tensor, int, torch.cuda.Event] | None = None

    def record(self, step: int, metrics: Mapping[str, Tensor]) -> None:
        """Record the scalars of a step, the same names at every step, without waiting for the device."""
        if not self._names:
            self._names = list(metrics)
            device = next(iter(metrics.values())).device
            shape = (len(metrics), self._num_steps - self._start)
            self._values = torch.zeros(shape, dtype=torch.float64, device=device)
        column = torch.stack([metrics[name].detach().double() for name in self._names])
        self._values[:, step - self._start] = column

    def snapshot(self, steps: int) -> dict[str, Tensor]:
        """Return this process's rows on the host, without waiting for the device.

        On a GPU this starts an asynchronous copy and returns the last one that has arrived, which may lack the latest steps.

        Args:
            steps: how many steps of the epoch are done.
        """
        own = steps - self._start
        if self._values.device.type == "cpu":
            self._latest = (self._values, own)
        elif self._copy is None or self._copy[2].query():
            if self._copy is not None:
                self._latest = self._copy[:2]
            host = torch.empty(self._values.shape, dtype=self._values.dtype, pin_memory=True)
            host.copy_(self._values, non_blocking=True)
            done = torch.cuda.Event()
            done.record()
            self._copy = (host, own, done)
        values, columns = self._latest
        return {name: row[:columns] for name, row in zip(self._names, values, strict=False)}

    def first_bad_step(self, steps: int) -> int | None:
        """Return the number of the first step, from 0, that is not finite in `snapshot(steps)`; None if all are."""
        column = first_bad_column(self.snapshot(steps))
        return None if column is None else self._start + column

    def totals(self, steps: int, world: World) -> dict[str, Tensor]:
        """Return the mean over all ranks of each metric at each of the first `steps` steps, on the host; waits for the device."""
        mean = world.all_reduce_sum(self._values[:, : steps - self._start]).cpu() / world.world_size
        empty = torch.empty(0, dtype=torch.float64)
        return {name: torch.cat([self._before.get(name, empty), row]) for name, row in zip(self._names, mean, strict=True)}


def first_bad_column(table: Mapping[str, Tensor]) -> int | None:
    """Return the first column in which the loss or the norm of the gradient is not finite; None if there is none."""
    if not table:
        return None
    bad = (~torch.isfinite(torch.stack([table["loss"], table["grad_norm"]]))).any(0).nonzero()
    return int(bad[0]) if len(bad) else None
