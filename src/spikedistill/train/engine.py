"""The training loop, one for teachers and students.

An interrupted run resumes exactly, within an epoch too: the order and the augmentation of samples are functions of (seed, epoch),
the learning rate is a function of the epoch, all other random draws are functions of (seed, epoch, step, rank), and everything
else is in the checkpoint. On the CPU the weights come out bit-identical.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from spikedistill.data.loading.loader import Loader
from spikedistill.data.loading.rng import derived_seed
from spikedistill.data.malloc import keep_freed_memory
from spikedistill.errors import ConfigError, TrainingError
from spikedistill.models import ModelOutput
from spikedistill.neurons.firing import firing_rates
from spikedistill.train.batchnorm import synchronise
from spikedistill.train.blocks import checkpoint_blocks, compile_blocks, compile_neurons
from spikedistill.train.checkpoint import CheckpointFolder
from spikedistill.train.distributed import World
from spikedistill.train.history import History, first_bad_column
from spikedistill.train.interrupt import Interrupted, StopRequest
from spikedistill.train.optim import build_optimizer, learning_rate, set_learning_rate
from spikedistill.train.settings import EngineConfig, TrainConfig
from spikedistill.train.tracking import Tracker
from spikedistill.train.validation import ACCURACY, Best, validate

log = logging.getLogger(__name__)

COMPILERS = ("g++", "clang++")
FINITE_CHECK_EVERY = 20  # steps between checks that the loss is finite


@dataclass(frozen=True)
class Batch:
    """The samples of one step on one rank.

    Attributes:
        inputs: images [B, C, H, W] or frames [T, B, C, H, W], as the model gets them.
        labels: class numbers [B].
        epoch: number of the epoch, from 0.
        step: number of the step in the epoch, from 0.
        first: position of the first sample in the global batch of this step.
        global_size: number of samples in the global batch of this step, over all ranks.
    """

    inputs: Tensor
    labels: Tensor
    epoch: int
    step: int
    first: int
    global_size: int


class Objective(Protocol):
    """The loss that training minimises."""

    def __call__(self, outputs: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of the loss, weighted, by name; their sum is minimised.

        Args:
            outputs: output of the model, in float32 or float64.
            batch: the samples that it was computed from.
        """


@dataclass(frozen=True)
class Run:
    """Everything that one training run consists of.

    Attributes:
        model: the network, on `world.device`; it returns `ModelOutput` and is trained in place.
        objective: the loss to minimise.
        loader: the training split, in training order.
        config: the recipe.
        seed: seed of the draws that the model and the objective make from torch's generators.
        world: the ranks.
        checkpoints: the checkpoints to resume from and to write.
        tracker: receives the scalars of each epoch; not open yet.
        validation: the validation split in evaluation batches, measured after each epoch; None if there is none.
        engine: configuration of speed, memory and checkpoints.
    """

    model: nn.Module
    objective: Objective
    loader: Loader
    config: TrainConfig
    seed: int
    world: World
    checkpoints: CheckpointFolder
    tracker: Tracker
    validation: Loader | None = None
    engine: EngineConfig = field(default_factory=EngineConfig)


def train(run: Run) -> None:
    """Train to the last epoch, starting from the newest checkpoint if there is one.

    Raises:
        TrainingError: if the loss is not finite, or a checkpoint cannot be used.
        ConfigError: if the recipe cannot run on this device.
        Interrupted: if a signal asked to stop; the state is saved.
    """
    with StopRequest() as stop:
        _Training(run, stop).run_to_the_end()


class _Training:
    """A run in progress: the network as it is trained, and the position in the run."""

    def __init__(self, run: Run, stop: StopRequest) -> None:
        self._run = run
        self._stop = stop
        self._replica = _prepare(run)
        self._optimizer = build_optimizer(run.model, run.config)
        self._best = Best() if run.config.select == "best" else None
        self._epoch = 0
        self._history = History(run.loader.steps_per_epoch)
        self._last_good = "nothing was saved yet"
        self._start_step = self._resume()
        self._saved_at = time.monotonic()

    def run_to_the_end(self) -> None:
        run = self._run
        with run.tracker.open(self._epoch, self._start_step):
            while self._epoch < run.config.epochs:
                set_learning_rate(self._optimizer, learning_rate(run.config, self._epoch))
                self._train_epoch()
        if self._best is not None:
            self._best.restore(run.model)
            log.info("kept the network of epoch %d, the best by validation: %.2f %%", self._best.epoch + 1, self._best.accuracy)

    def _resume(self) -> int:
        """Load the newest checkpoint, if there is one; return how many steps of its epoch are done."""
        run = self._run
        state = _read_checkpoint(run)
        if state is None:
            return 0
        try:
            run.model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._epoch, step = int(state["epoch"]), int(state["step"])
            self._history = History(run.loader.steps_per_epoch, state["history"])
            if self._best is not None:
                self._best.load_state_dict(state["best"])
        except (KeyError, RuntimeError, ValueError) as err:
            raise TrainingError(
                f"{run.checkpoints.folder}: the newest checkpoint does not fit this network and its optimizer; move it away "
                f"to start from the beginning ({str(err).strip().partition(chr(10))[0]})"
            ) from err
        self._last_good = _moment(self._epoch, step)
        log.info("resuming from %s", self._last_good)
        return step

    def _train_epoch(self) -> None:
        run = self._run
        self._replica.train()
        num_steps = run.loader.steps_per_epoch
        clock = _Clock()
        batches = clock.time_data(run.loader.epoch(self._epoch, self._start_step))
        for step, (inputs, labels) in enumerate(batches, self._start_step):
            torch.manual_seed(derived_seed("step", run.seed, self._epoch, step, run.world.rank))
            self._history.record(step, self._step(step, inputs, labels))
            clock.samples += len(labels) * run.world.world_size
            self._check_and_checkpoint(step + 1, last=step + 1 == num_steps)
            if run.tracker.is_due():
                self._show(step + 1, clock)
        totals = self._check_finite(num_steps)
        clock.stop()
        metrics = _summarise(totals) | clock.metrics() | _memory(run.world)
        metrics["optim/lr"] = self._optimizer.param_groups[0]["lr"]
        if run.world.is_main_process:
            metrics |= firing_rates(run.model, _split(inputs, run.engine.accumulate)[0])
        metrics |= self._validate()
        run.tracker.record(self._epoch, metrics)
        self._epoch += 1
        self._start_step = 0
        self._history = History(num_steps)
        self._save(0, {})
        (number,) = run.world.all_reduce_max([self._stop.number])
        if number and self._epoch < run.config.epochs:
            self._leave(number)

    def _validate(self) -> dict[str, float]:
        """Measure the network on the validation split, if there is one, and remember it if it is the best so far."""
        run = self._run
        if run.validation is None:
            return {}
        metrics = validate(run.model, run.validation, run.world)
        if self._best is not None:
            self._best.offer(self._epoch, metrics[ACCURACY], run.model)
        return metrics

    def _step(self, step: int, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Update the weights once; return the metrics of the step as tensors on the device, without waiting for them."""
        run, parts = self._run, self._run.engine.accumulate
        first, global_size = run.world.rank * len(labels), run.world.world_size * len(labels)
        self._optimizer.zero_grad(set_to_none=True)
        metrics: dict[str, Tensor] = {}
        pieces = zip(_split(inputs, parts), labels.chunk(parts), strict=True)
        for part, (x, y) in enumerate(pieces):
            with self._gradient_sync(part + 1 == parts):
                with torch.autocast(run.world.device.type, torch.bfloat16, enabled=run.config.precision == "bf16"):
                    outputs = self._replica(x)
                outputs = outputs.in_full_precision()
                terms = run.objective(outputs, Batch(x, y, self._epoch, step, first + part * len(y), global_size))
                loss = torch.stack(list(terms.values())).sum()
                (loss / parts).backward()
            found = {"loss": loss, "accuracy": _accuracy(outputs, y), **{f"loss_{k}": v for k, v in terms.items()}}
            for name, value in found.items():
                metrics[name] = metrics.get(name, 0) + value.detach() / parts
        gradients = [p.grad for p in run.model.parameters() if p.grad is not None]
        metrics["grad_norm"] = torch.nn.utils.get_total_norm(gradients)
        self._optimizer.step()
        return metrics

    def _gradient_sync(self, enabled: bool) -> contextlib.AbstractContextManager[None]:
        """Return a context in which backward averages the gradients over the ranks, or, if not `enabled`, keeps them local."""
        if enabled or not isinstance(self._replica, DistributedDataParallel):
            return contextlib.nullcontext()
        return self._replica.no_sync()

    def _check_and_checkpoint(self, steps: int, *, last: bool) -> None:
        """After a step, stop on a loss that is not finite, write a checkpoint if one is due, and leave if a signal asks to.

        One all-reduce makes all ranks take the same decision.
        """
        run = self._run
        bad = self._history.first_bad_step(steps) if steps % FINITE_CHECK_EVERY == 0 else None
        due = time.monotonic() - self._saved_at >= 60 * run.engine.checkpoint_minutes and run.world.is_main_process
        bad_from_end = 0 if bad is None else run.loader.steps_per_epoch - bad  # its maximum belongs to the first bad step
        number, due_anywhere, bad_from_end = run.world.all_reduce_max([self._stop.number, int(due), bad_from_end])
        if bad_from_end:
            raise self._not_finite(run.loader.steps_per_epoch - bad_from_end)
        if last or not (number or due_anywhere):  # after the last step, the end of the epoch saves
            return
        self._save(steps, self._check_finite(steps))
        if number:
            self._leave(number)

    def _check_finite(self, steps: int) -> dict[str, Tensor]:
        """Return the history of the first `steps` steps over all ranks; waits for the device.

        Raises:
            TrainingError: on all ranks, if a loss or a gradient norm was not finite on any rank.
        """
        totals = self._history.totals(steps, self._run.world)
        bad = first_bad_column(totals)
        if bad is not None:
            raise self._not_finite(bad)
        return totals

    def _not_finite(self, step: int) -> TrainingError:
        run = self._run
        return TrainingError(
            f"the loss or its gradient is not finite at epoch {self._epoch + 1} of {run.config.epochs}, step {step + 1} of "
            f"{run.loader.steps_per_epoch}; last good: {self._last_good}. Lower train.lr, raise train.warmup_epochs, or "
            "set train.precision to float32"
        )

    def _save(self, steps: int, totals: dict[str, Tensor]) -> None:
        run = self._run
        if run.world.is_main_process:
            state = {"model": run.model.state_dict(), "optimizer": self._optimizer.state_dict(), "history": totals}
            if self._best is not None:
                state["best"] = self._best.state_dict()
            run.checkpoints.save(self._epoch, steps, state)
        self._saved_at = time.monotonic()
        self._last_good = _moment(self._epoch, steps)

    def _leave(self, number: int) -> None:
        log.warning("stopped by signal %d; saved %s; run the same command again to resume", number, self._last_good)
        raise Interrupted(number)

    def _show(self, steps: int, clock: _Clock) -> None:
        table = self._history.snapshot(steps)
        if table and len(table["loss"]):
            loss, accuracy = float(table["loss"][-1]), 100 * float(table["accuracy"].mean())
            self._run.tracker.show_step(self._epoch, steps, loss=loss, accuracy=accuracy, samples_per_s=clock.speed)


class _Clock:
    """The time that an epoch takes, and the share of it spent waiting for data, in this process."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._seconds = 0.0
        self._data_s = 0.0
        self.samples = 0

    def time_data(self, batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Pass batches on and measure the time spent waiting for them."""
        while True:
            waiting_since = time.perf_counter()
            batch = next(batches, None)
            self._data_s += time.perf_counter() - waiting_since
            if batch is None:
                return
            yield batch

    def stop(self) -> None:
        self._seconds = time.perf_counter() - self._started

    @property
    def speed(self) -> float:
        """Samples per second so far, over all ranks."""
        return self.samples / (self._seconds or time.perf_counter() - self._started)

    def metrics(self) -> dict[str, float]:
        share = 100 * self._data_s / self._seconds
        return {"time/epoch(s)": self._seconds, "time/throughput(samples/s)": self.speed, "time/data(%)": share}


def _prepare(run: Run) -> nn.Module:
    """Prepare the model for training: memory layout, compilation, activation checkpointing, DDP on several ranks."""
    model, engine, device = run.model, run.engine, run.world.device
    per_rank = run.config.batch_size // run.world.world_size
    if per_rank % engine.accumulate:
        raise ConfigError(
            f"engine.accumulate {engine.accumulate} does not divide the {per_rank} samples that each of the "
            f"{run.world.world_size} ranks gets of train.batch_size {run.config.batch_size}; change one of them"
        )
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster convolutions, same values
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    else:
        keep_freed_memory()
    if run.world.world_size > 1 and run.config.sync_batchnorm:
        synchronise(model, device)
    if engine.compile:
        _compile(model, device)
    if engine.checkpoint_activations:
        checkpoint_blocks(model)
    if run.world.world_size == 1:
        return model
    device_ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=device_ids, gradient_as_bucket_view=True)


def _compile(model: nn.Module, device: torch.device) -> None:
    """Compile whole blocks on a GPU; on a CPU only the neurons, which takes seconds: convolutions are the library's there."""
    if device.type == "cuda":
        compile_blocks(model)
        return
    if not any(shutil.which(name) for name in COMPILERS):
        raise ConfigError(
            f"engine.compile: needs one of {', '.join(COMPILERS)}, but none is installed; install one, or set it to false"
        )
    compile_neurons(model)


def _read_checkpoint(run: Run) -> dict[str, Any] | None:
    """Return the newest checkpoint on all ranks: rank 0 reads and broadcasts it, or the error, so that all ranks fail alike."""
    state, problem = None, None
    if run.world.is_main_process:
        try:
            state = run.checkpoints.load_newest(torch.device("cpu"))
        except TrainingError as err:
            problem = str(err)
    state, problem = run.world.broadcast((state, problem))
    if problem:
        raise TrainingError(problem)
    return state


def _moment(epoch: int, step: int) -> str:
    return f"the checkpoint after epoch {epoch}" + (f" and {step} steps" if step else "")


def _split(inputs: Tensor, parts: int) -> tuple[Tensor, ...]:
    """Split images [B, C, H, W] or frames [T, B, C, H, W] along the batch."""
    return inputs.chunk(parts, dim=inputs.dim() - 4)


def _accuracy(outputs: ModelOutput, labels: Tensor) -> Tensor:
    """Return the share of samples whose predicted class is right."""
    return (outputs.prediction.detach().argmax(-1) == labels).double().mean()


def _summarise(totals: dict[str, Tensor]) -> dict[str, float]:
    """Return the scalars of an epoch: means over its steps."""
    mean = {name: float(row.mean()) for name, row in totals.items()}
    accuracy, grad_norm = mean.pop("accuracy"), mean.pop("grad_norm")
    return {
        **{f"train/{name}": value for name, value in mean.items()},
        "train/accuracy(%)": 100 * accuracy,
        "optim/grad_norm": grad_norm,
    }


def _memory(world: World) -> dict[str, float]:
    """Return the peak memory of this process on its device."""
    if world.device.type == "cuda":
        return {"mem/peak(GiB)": torch.cuda.max_memory_allocated(world.device) / 2**30}
    return {"mem/peak(GiB)": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
