"""Stochastic gradient descent with momentum; weight decay is added to the gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from spikedistill.components import ComponentParams
from spikedistill.lazy import torch
from spikedistill.train.optimizers.fused import can_fuse

USES_MOMENTUM = True


class Params(ComponentParams):
    """Its momentum is `train.momentum`."""

    nesterov: bool = Field(False, description="Nesterov momentum (Sutskever et al. 2013).")


def problems(params: Params, momentum: float) -> Iterator[tuple[str, str]]:
    """Yield the parameters that do not fit the momentum, each with the reason."""
    if params.nesterov and momentum == 0:
        yield "nesterov", "needs a momentum, and train.momentum is 0: set one of them"


def build(groups: list[dict[str, Any]], lr: float, params: Params) -> torch.optim.Optimizer:
    """Build torch's SGD, in the fused implementation where there is one.

    Args:
        groups: parameter groups with `weight_decay` and `momentum`.
        lr: learning rate.
        params: the parameters.
    """
    momentum = groups[0]["momentum"]
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=params.nesterov, fused=can_fuse(groups))
