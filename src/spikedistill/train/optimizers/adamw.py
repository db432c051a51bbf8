"""AdamW (Loshchilov and Hutter 2019): adaptive moments; weight decay shrinks the weights, apart from the gradient."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from spikedistill.components import ComponentParams
from spikedistill.lazy import torch
from spikedistill.train.optimizers.fused import can_fuse

Beta = Annotated[float, Field(ge=0, lt=1)]


class Params(ComponentParams):
    """At each step, weights shrink by lr times `train.weight_decay` times themselves."""

    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="Decay of the running means of the gradient and of its square.")
    eps: float = Field(1e-8, gt=0, description="Added to the denominator.")
    amsgrad: bool = Field(False, description="Divide by the largest second moment so far (Reddi et al. 2018).")


def build(groups: list[dict[str, Any]], lr: float, params: Params) -> torch.optim.Optimizer:
    """Build torch's AdamW, in the fused implementation where there is one.

    Args:
        groups: parameter groups with `weight_decay`.
        lr: learning rate.
        params: the parameters.
    """
    return torch.optim.AdamW(groups, lr=lr, betas=params.betas, eps=params.eps, amsgrad=params.amsgrad, fused=can_fuse(groups))
