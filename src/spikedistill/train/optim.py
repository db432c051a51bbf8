"""Optimizer and learning-rate schedule of a recipe."""

from __future__ import annotations

import math

import torch
from torch import nn

from spikedistill.train.settings import TrainConfig


def build_optimizer(model: nn.Module, settings: TrainConfig) -> torch.optim.Optimizer:
    """SGD with momentum; by default only weights of convolutions and linear layers decay, not biases or norms.

    One fused pass over all parameters where the device has one.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in parameters if settings.weight_decay_on == "all" or p.dim() > 1]
    kept = [p for p in parameters if settings.weight_decay_on != "all" and p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}]
    if kept:
        groups.append({"params": kept, "weight_decay": 0.0})
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, fused=fused)


def learning_rate(settings: TrainConfig, epoch: int) -> float:
    """The learning rate of an epoch: linear warm-up, then half a cosine from lr down to 0."""
    warmup = settings.warmup_epochs
    if epoch < warmup:
        return settings.lr * (epoch + 1) / warmup
    progress = (epoch - warmup) / max(1, settings.epochs - warmup)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = lr
