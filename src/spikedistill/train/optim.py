"""Parameter groups, optimizer and learning rate of a recipe."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spikedistill.train.schedules.position import Position
from spikedistill.train.settings import TrainConfig

_LR_SCALE = "lr_scale"
"""Key of a parameter group, and so in checkpoints."""


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Build the optimizer of a recipe.

    Weight decay applies to the weights of convolutions and linear layers, or, if `weight_decay_on` is "all", to biases and
    normalisation parameters as well.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in parameters if config.weight_decay_on == "all" or p.dim() > 1]
    not_decayed = [p for p in parameters if config.weight_decay_on != "all" and p.dim() <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": config.weight_decay}]
    if not_decayed:
        groups.append({"params": not_decayed, "weight_decay": 0.0})
    optimizer = config.optimizer.component
    if getattr(optimizer, "USES_MOMENTUM", False):
        groups = [{**group, "momentum": config.momentum} for group in groups]
    built: torch.optim.Optimizer = optimizer.build(groups, config.lr, config.optimizer.checked_params)
    for group in built.param_groups:
        if float(group["lr"]) != config.lr:  # of a plug-in that gives some parameters another one
            group[_LR_SCALE] = float(group["lr"]) / config.lr
    return built


class LearningRate:
    """The learning rate of a recipe by step: linear warm-up, then the schedule."""

    def __init__(self, config: TrainConfig, steps_per_epoch: int) -> None:
        """Look the schedule up once."""
        self._config = config
        self._by_step = config.schedule.per == "step"
        self._unit = steps_per_epoch if self._by_step else 1
        self._factor, self._params = config.schedule.component.factor, config.schedule.checked_params

    def at(self, epoch: int, step: int) -> float:
        """Return the learning rate of a step.

        Args:
            epoch: from 0.
            step: in the epoch, from 0; it counts with `schedule.per: step` only.
        """
        config, unit = self._config, self._unit
        done, warmup = epoch * unit + (step if self._by_step else 0), config.warmup_epochs * unit
        if done < warmup:
            return config.lr * (done + 1) / warmup
        progress = (done - warmup) / max(1, config.epochs * unit - warmup)
        return config.lr * float(self._factor(Position(progress, done / unit, config.epochs), self._params))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every parameter group; those that were built with a multiple of `train.lr` get that multiple."""
    for group in optimizer.param_groups:
        of_group = lr * group.get(_LR_SCALE, 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(of_group)
        else:
            group["lr"] = of_group


def can_capture(optimizer: torch.optim.Optimizer) -> bool:
    """Return True if a CUDA graph can hold a step of the optimizer: for those of torch that keep all numbers on the device."""
    known = type(optimizer) in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
    return known and all(group.get("fused") for group in optimizer.param_groups)


def prepare_capture(optimizer: torch.optim.Optimizer, *, captured: bool) -> None:
    """Keep the learning rate where a CUDA graph can read it, or, if no step is `captured`, as a number.

    It is called after a checkpoint was loaded, whose parameter groups may be of either form.
    """
    for group in optimizer.param_groups:
        lr = float(group["lr"])
        group["lr"] = torch.tensor(lr, device=group["params"][0].device) if captured else lr
        if "capturable" in group:
            group["capturable"] = captured
    optimizer._warned_capturable_if_run_uncaptured = True  # type: ignore[attr-defined]  # the first steps are not captured
