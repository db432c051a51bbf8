"""Stochastic gradient descent with momentum; weight decay is added to the gradient."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from spikedistill.components import ComponentParams
from spikedistill.lazy import torch
from spikedistill.train.optimizers.fused import can_fuse

USES_MOMENTUM = True


class Params(ComponentParams):
    """Its momentum is `train.momentum`."""

    nesterov: bool = Field(False, description="Nesterov momentum (Sutskever et al. 2013).")


def build(groups: list[dict[str, Any]], lr: float, params: Params) -> torch.optim.Optimizer:
    """Build torch's SGD, in the fused implementation where there is one.

    Args:
        groups: parameter groups with `weight_decay` and `momentum`.
        lr: learning rate.
        params: the parameters.
    """
    momentum = groups[0]["momentum"]
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=params.nesterov, fused=can_fuse(groups))
