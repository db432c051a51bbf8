"""What every optimizer promises."""

from __future__ import annotations

import copy
import math
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from spikedistill.contract.findings import require, require_description

LR = 1e-3
STEPS = 5


def describes_itself(optimizer: ModuleType) -> None:
    """The file and every parameter are described."""
    require_description(optimizer, "optimizer")


def every_parameter_follows_its_gradient(optimizer: ModuleType) -> None:
    """A quadratic loss falls, every parameter moves, and all stay finite."""
    weights = _weights()
    built = _build(optimizer, weights)
    before, first = [w.detach().clone() for w in weights], _loss(weights).item()
    _run(built, weights, 50)
    last = _loss(weights).item()
    require(math.isfinite(last) and last < first, f"50 steps at lr {LR} lower a quadratic loss; from {first} to {last}")
    require(not any(map(torch.equal, before, weights)), "every parameter moves: those of all groups, matrices and vectors")


def the_learning_rate_is_that_of_the_groups(optimizer: ModuleType) -> None:
    """`lr` of the parameter groups is what counts at each step, since the schedule sets it: at 0, nothing moves."""
    weights = _weights()
    built = _build(optimizer, weights)
    _run(built, weights, 1)
    for group in built.param_groups:
        group["lr"] = 0.0
    before = [w.detach().clone() for w in weights]
    _run(built, weights, 1)
    require(all(map(torch.equal, before, weights)), "with lr 0 in every group, a step changes no parameter")


def weight_decay_is_that_of_the_groups(optimizer: ModuleType) -> None:
    """`weight_decay` of the groups is what counts: without a gradient, weights shrink in the group that has it alone."""
    weights = _weights()
    built = _build(optimizer, weights, decay=0.5)
    before = [w.detach().clone() for w in weights]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    built.step()
    matrix, vector = weights
    require((matrix.abs() < before[0].abs()).all(), "with weight_decay 0.5, a step without a gradient makes weights smaller")
    require(torch.equal(vector, before[1]), "with weight_decay 0, a step without a gradient changes nothing")


def it_resumes_to_the_bit(optimizer: ModuleType) -> None:
    """Its state_dict, in a new optimizer, continues with the same numbers."""
    weights = _weights()
    built = _build(optimizer, weights)
    _run(built, weights, STEPS)
    state = copy.deepcopy(built.state_dict())
    copies = [w.detach().clone().requires_grad_() for w in weights]
    _run(built, weights, STEPS)
    resumed = _build(optimizer, copies)
    resumed.load_state_dict(state)
    _run(resumed, copies, STEPS)
    require(all(map(torch.equal, weights, copies)), "state_dict holds all of its state: after load_state_dict, steps go on alike")


CHECKS = (
    describes_itself,
    every_parameter_follows_its_gradient,
    the_learning_rate_is_that_of_the_groups,
    weight_decay_is_that_of_the_groups,
    it_resumes_to_the_bit,
)
"""Checks of an optimizer."""


def _weights() -> list[Tensor]:
    """Return a matrix and a vector to learn."""
    generator = torch.Generator().manual_seed(0)
    return [(torch.rand(shape, generator=generator) + 0.5).requires_grad_() for shape in ((3, 4), (4,))]


def _build(optimizer: ModuleType, weights: list[Tensor], decay: float = 0.0) -> torch.optim.Optimizer:
    """Build it as the engine does, with weight decay for matrices."""
    own: dict[str, Any] = {"momentum": 0.9} if getattr(optimizer, "USES_MOMENTUM", False) else {}
    groups = [{"params": [w], "weight_decay": decay if w.dim() > 1 else 0.0, **own} for w in weights]
    built = optimizer.build(groups, LR, optimizer.Params())
    require(isinstance(built, torch.optim.Optimizer), f"build returns a torch.optim.Optimizer; found {type(built).__name__}")
    return built


def _loss(weights: list[Tensor]) -> Tensor:
    return torch.stack([weight.square().sum() for weight in weights]).sum()


def _run(optimizer: torch.optim.Optimizer, weights: list[Tensor], steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        _loss(weights).backward()
        optimizer.step()
