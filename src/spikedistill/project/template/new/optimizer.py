"""Gradient descent in the direction of the sign of the smoothed gradient (Lion, Chen et al. 2023)."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from spikedistill.components import ComponentParams
from spikedistill.lazy import torch


class Params(ComponentParams):
    """At each step, weights shrink by lr times `train.weight_decay` times themselves."""

    beta1: float = Field(0.9, ge=0, lt=1, description="Share of the running mean in the direction of a step.")
    beta2: float = Field(0.99, ge=0, lt=1, description="Decay of the running mean of the gradient.")


def build(groups: list[dict[str, Any]], lr: float, params: Params) -> torch.optim.Optimizer:
    """Build the optimizer; `lr` and `weight_decay` of the groups count at each step."""
    from torch.optim import Optimizer

    class Lion(Optimizer):
        @torch.no_grad()
        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                for weight in group["params"]:
                    if weight.grad is not None:
                        mean = self.state[weight].setdefault("mean", torch.zeros_like(weight))
                        weight.mul_(1 - group["lr"] * group["weight_decay"])
                        weight.sub_(group["lr"] * mean.lerp(weight.grad, 1 - params.beta1).sign_())
                        mean.lerp_(weight.grad, 1 - params.beta2)

    return Lion(groups, {"lr": lr})
