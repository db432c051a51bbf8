"""Optimizer and learning-rate schedule of a recipe."""

from __future__ import annotations

import math

import torch
from torch import nn

from spikedistill.train.settings import TrainConfig


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Build SGD with momentum, in the fused implementation on CPUs and GPUs.

    Weight decay applies to the weights of convolutions and linear layers, or, if `weight_decay_on` is "all", to biases and
    normalisation parameters as well.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in parameters if config.weight_decay_on == "all" or p.dim() > 1]
    not_decayed = [p for p in parameters if config.weight_decay_on != "all" and p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}]
    if not_decayed:
        groups.append({"params": not_decayed, "weight_decay": 0.0})
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=fused)


def learning_rate(config: TrainConfig, epoch: int) -> float:
    """Return the learning rate of an epoch, from 0: linear warm-up, then half a cosine from lr down to 0."""
    warmup = config.warmup_epochs
    if epoch < warmup:
        return config.lr * (epoch + 1) / warmup
    progress = (epoch - warmup) / max(1, config.epochs - warmup)
    return config.lr * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = lr
