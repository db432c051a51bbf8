"""An exponential moving average of the weights, which is what is validated and kept."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from spikedistill.train.network.preparation import lay_out_channels_last


class Average:
    """average = decay * average + (1 - decay) * weights after each step; after the first step, the weights themselves.

    The running statistics of batch norms are averaged alike, since those of the moment do not belong to averaged weights;
    counters are copied. torch's `AveragedModel` would wait for the GPU at each step, to read its number of updates.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Copy a network, which must not be compiled or wrapped yet."""
        self.network: nn.Module = copy.deepcopy(model).requires_grad_(False)
        """The network with averaged weights."""
        lay_out_channels_last(self.network)
        self._average = get_ema_multi_avg_fn(decay)
        self._has_started = False

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights after a step."""
        pairs = list(zip(_tensors(self.network), _tensors(model), strict=True))
        averaged = [pair for pair in pairs if self._has_started and pair[0].is_floating_point()]
        for own, given in pairs:
            if not (self._has_started and own.is_floating_point()):
                own.copy_(given)
        if averaged:
            self._average([own for own, _ in averaged], [given for _, given in averaged], None)
        self._has_started = True

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"network": self.network.state_dict(), "has_started": self._has_started}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.network.load_state_dict(state["network"])
        self._has_started = bool(state["has_started"])


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
