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
from spikedistill.models import Outputs
from spikedistill.train.checkpoint import CheckpointFolder
from spikedistill.train.distributed import World
from spikedistill.train.optim import build_optimizer, learning_rate, set_learning_rate
from spikedistill.train.settings import TrainConfig
from spikedistill.train.tracking import Tracker

CHECK_STEPS = 100  # steps between looks at whether the loss is finite: each one waits for the device


@dataclass(frozen=True)
class Batch:
    """Samples of one step on one rank.

    Attributes:
        inputs: images [B, C, H, W] or frames [T, B, C, H, W], as the model gets them.
        labels: class numbers [B].
        epoch: from 0.
        step: of the epoch, from 0.
        first: place of the first sample in the step's global batch.
        global_size: samples in the step's global batch, over all ranks.
    """

    inputs: Tensor
    labels: Tensor
    epoch: int
    step: int
    first: int
    global_size: int


class Objective(Protocol):
    """What is minimised."""

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Named terms of the loss, weighted; their sum is minimised.

        Args:
            outputs: what the model returned, in float32 or float64.
            batch: what the model got.
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
    run.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster convolutions, same values
    replica = _distribute(run)
    optimizer = build_optimizer(run.model, run.settings)
    start_epoch = _resume(run, optimizer)
    with run.open_tracker(start_epoch) as tracker:
        for epoch in range(start_epoch, run.settings.epochs):
            set_learning_rate(optimizer, learning_rate(run.settings, epoch))
            tracker.record(epoch, _train_epoch(run, replica, optimizer, tracker, epoch))
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
        nn.SyncBatchNorm.convert_sync_batchnorm(run.model)  # in place; the parameters stay the same objects
    return DistributedDataParallel(run.model, device_ids=[run.world.device] if on_gpu else None)


def _resume(run: Run, optimizer: torch.optim.Optimizer) -> int:
    state = run.checkpoints.load_newest(run.world.device)
    epoch = 0 if state is None else int(state["epoch"])
    if state is not None:
        run.model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    total = run.world.sum(torch.tensor(epoch, device=run.world.device))
    if int(total) != epoch * run.world.world_size:
        raise TrainingError(f"rank {run.world.rank} found a checkpoint of epoch {epoch}, others another: is the store shared?")
    return epoch


class _Tally:
    """Running sums of an epoch on this rank, kept on the device so that a step does not wait for it."""

    def __init__(self, num_steps: int, device: torch.device) -> None:
        self.losses = torch.zeros(num_steps, dtype=torch.float64, device=device)
        self.terms: dict[str, Tensor] = {}
        self.correct = torch.zeros((), dtype=torch.float64, device=device)
        self.samples = 0
        self.started = time.perf_counter()

    def add(self, step: int, loss: Tensor, terms: dict[str, Tensor], prediction: Tensor, labels: Tensor) -> None:
        self.losses[step] = loss.detach()
        for name, value in terms.items():
            self.terms[name] = self.terms.get(name, 0) + value.detach().double()
        self.correct += (prediction.argmax(-1) == labels).sum()
        self.samples += len(labels)


def _train_epoch(
    run: Run, replica: nn.Module, optimizer: torch.optim.Optimizer, tracker: Tracker, epoch: int
) -> dict[str, float]:
    replica.train()
    num_steps = run.loader.steps_per_epoch
    tally = _Tally(num_steps, run.world.device)
    for step, (inputs, labels) in enumerate(run.loader.epoch(epoch)):
        with torch.autocast(run.world.device.type, torch.bfloat16, enabled=run.settings.precision == "bf16"):
            outputs = replica(inputs)
        outputs = outputs.in_full_precision()
        batch = Batch(inputs, labels, epoch, step, run.world.rank * len(labels), run.world.world_size * len(labels))
        terms = run.objective(outputs, batch)
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        tally.add(step, loss, terms, outputs.prediction.detach(), labels)
        if (step + 1) % CHECK_STEPS == 0 or step + 1 == num_steps:
            _check_finite(run, tally.losses, epoch)
        if tracker.is_due():
            accuracy = 100 * float(tally.correct) / tally.samples
            speed = run.world.world_size * tally.samples / (time.perf_counter() - tally.started)
            tracker.show_step(epoch, step + 1, num_steps, loss=float(loss.detach()), accuracy=accuracy, samples_per_s=speed)
    return _summarise(run, tally, optimizer)


def _check_finite(run: Run, losses: Tensor, epoch: int) -> None:
    """Stop all ranks together when the loss of any of them is not finite."""
    bad = (~torch.isfinite(run.world.sum(losses))).nonzero()
    if len(bad):
        resume_from = f"the checkpoint after epoch {epoch} is the last good one" if epoch else "nothing was saved yet"
        raise TrainingError(
            f"the loss is not finite at epoch {epoch + 1} of {run.settings.epochs}, step {int(bad[0]) + 1} of {len(losses)}; "
            f"{resume_from}. Lower train.lr, raise train.warmup_epochs, or set train.precision to float32"
        )


def _summarise(run: Run, tally: _Tally, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The figures of an epoch over all ranks."""
    names = sorted(tally.terms)
    parts = torch.stack([tally.losses.sum(), tally.correct, *(tally.terms[name] for name in names)])
    loss, correct, *terms = run.world.sum(parts).tolist()
    seconds = time.perf_counter() - tally.started  # after the sums are here, so that the device has finished
    batches = len(tally.losses) * run.world.world_size
    samples = tally.samples * run.world.world_size
    return {
        "train/loss": loss / batches,
        **{f"train/loss_{name}": value / batches for name, value in zip(names, terms, strict=True)},
        "train/accuracy(%)": 100 * correct / samples,
        "optim/lr": optimizer.param_groups[0]["lr"],
        "time/epoch(s)": seconds,
        "time/throughput(samples/s)": samples / seconds,
    }
