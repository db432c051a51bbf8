"""The training loop, one for teachers and students.

Exact after an interruption: the order and the augmentation of samples are functions of (seed, epoch), the learning rate
of the epoch, and the rest is in the checkpoint. On the CPU the weights come out bit-identical.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from spikedistill.data.loader import Loader
from spikedistill.errors import ConfigError, TrainingError
from spikedistill.train.checkpoint import CheckpointFolder
from spikedistill.train.distributed import World
from spikedistill.train.optim import build_optimizer, learning_rate, set_learning_rate
from spikedistill.train.settings import TrainConfig
from spikedistill.train.tracking import Tracker


class Objective(Protocol):
    """What is minimised."""

    def __call__(self, outputs: Tensor, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Named terms of the loss, weighted; their sum is minimised.

        Args:
            outputs: what the model returned, in float32 or float64.
            inputs: the batch as the model got it.
            labels: class numbers [B].
        """


@dataclass(frozen=True)
class Run:
    """Everything that one training run consists of.

    Attributes:
        model: trained in place; on `world.device`.
        objective: what is minimised.
        loader: the training split, in training order.
        settings: the recipe.
        world: the ranks.
        checkpoints: where to resume from.
        open_tracker: makes the tracker, given the epoch that training starts from.
    """

    model: nn.Module
    objective: Objective
    loader: Loader
    settings: TrainConfig
    world: World
    checkpoints: CheckpointFolder
    open_tracker: Callable[[int], Tracker]


def train(run: Run) -> None:
    """Train to the last epoch, from the newest checkpoint if there is one.

    Raises:
        TrainingError: if the loss is not finite, or a checkpoint cannot be used.
        ConfigError: if the recipe cannot run on this device.
    """
    replica = _distribute(run)
    optimizer = build_optimizer(run.model, run.settings)
    start_epoch = _resume(run, optimizer)
    with run.open_tracker(start_epoch) as tracker:
        for epoch in range(start_epoch, run.settings.epochs):
            set_learning_rate(optimizer, learning_rate(run.settings, epoch))
            tracker.record(epoch, _train_epoch(run, replica, optimizer, epoch))
            if run.world.is_leader:
                state = {"model": run.model.state_dict(), "optimizer": optimizer.state_dict()}
                run.checkpoints.save(epoch + 1, state)


def _distribute(run: Run) -> nn.Module:
    if run.world.world_size == 1:
        return run.model
    on_gpu = run.world.device.type == "cuda"
    if run.settings.sync_batchnorm:
        if not on_gpu:
            raise ConfigError("train.sync_batchnorm: batch statistics over several ranks need GPUs; set it to false")
        run.model = nn.SyncBatchNorm.convert_sync_batchnorm(run.model)  # type: ignore[misc]
    return DistributedDataParallel(run.model, device_ids=[run.world.device] if on_gpu else None)


def _resume(run: Run, optimizer: torch.optim.Optimizer) -> int:
    state = run.checkpoints.load_newest(run.world.device)
    epoch = 0 if state is None else int(state["epoch"])
    if state is not None:
        run.model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    total = run.world.sum(torch.tensor(epoch, device=run.world.device))
    if int(total) != epoch * run.world.world_size:
        raise TrainingError(
            f"rank {run.world.rank} found a checkpoint of epoch {epoch}, others another: is the store shared?"
        )
    return epoch


def _train_epoch(run: Run, replica: nn.Module, optimizer: torch.optim.Optimizer, epoch: int) -> dict[str, float]:
    replica.train()
    started = time.perf_counter()
    steps = run.loader.steps_per_epoch
    losses = torch.zeros(steps, device=run.world.device)
    terms: dict[str, Tensor] = {}
    correct = torch.zeros((), device=run.world.device)
    for step, (inputs, labels) in enumerate(run.loader.epoch(epoch)):
        with torch.autocast(run.world.device.type, torch.bfloat16, enabled=run.settings.precision == "bf16"):
            outputs = replica(inputs)
        outputs = outputs if outputs.dtype == torch.float64 else outputs.float()
        parts = run.objective(outputs, inputs, labels)
        loss = torch.stack(list(parts.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses[step] = loss.detach()
        for name, value in parts.items():
            terms[name] = terms.get(name, 0) + value.detach()
        logits = outputs.detach()
        correct += ((logits.mean(0) if logits.dim() == 3 else logits).argmax(-1) == labels).sum()
    return _summarise(run, epoch, losses, terms, correct, time.perf_counter() - started, optimizer)


def _summarise(
    run: Run,
    epoch: int,
    losses: Tensor,
    terms: dict[str, Tensor],
    correct: Tensor,
    seconds: float,
    optimizer: torch.optim.Optimizer,
) -> dict[str, float]:
    bad = (~torch.isfinite(losses)).nonzero()
    if len(bad):
        raise TrainingError(
            f"the loss is not finite at epoch {epoch}, step {int(bad[0])} (rank {run.world.rank}). The checkpoint of epoch "
            f"{epoch} is the last good one. Lower train.lr, add train.warmup_epochs, or use precision float32"
        )
    names = sorted(terms)
    seen = torch.as_tensor(float(len(losses)), device=losses.device)
    sums = run.world.sum(torch.stack([losses.sum(), correct, seen, *(terms[name] for name in names)]).double()).tolist()
    loss, hits, steps, *parts = sums
    samples = len(losses) * run.loader.batch_size
    return {
        "train/loss": loss / steps,
        **{f"train/loss_{name}": value / steps for name, value in zip(names, parts, strict=True)},
        "train/accuracy(%)": 100 * hits / samples,
        "optim/lr": optimizer.param_groups[0]["lr"],
        "time/epoch(s)": seconds,
        "time/throughput(samples/s)": samples / seconds,
    }
