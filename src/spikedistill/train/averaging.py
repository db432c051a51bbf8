"""An exponential moving average of the weights, which is what is validated and kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Average:
    """average = decay * average + (1 - decay) * weights after each step; after the first step, the weights themselves.

    The running statistics of batch norms are averaged alike, since those of the moment do not belong to averaged weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Copy a network, which must not be compiled or wrapped yet."""
        self._averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        self._averaged.requires_grad_(False)
        self._averaged.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def network(self) -> nn.Module:
        """The network with averaged weights."""
        return self._averaged.module

    def update(self, model: nn.Module) -> None:
        """Take in the weights after a step."""
        self._averaged.update_parameters(model)

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return self._averaged.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self._averaged.load_state_dict(state)
