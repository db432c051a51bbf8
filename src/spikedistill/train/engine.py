"""The training loop, one for teachers and students.

An interrupted run resumes exactly, within an epoch too: the order, the augmentation and the mixing of samples are functions of
(seed, epoch), the learning rate is a function of epoch and step, all other random draws are functions of (seed, epoch, step,
rank), and everything else is in the checkpoint. On the CPU the weights come out bit-identical.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from spikedistill.data.loading.loader import Loader
from spikedistill.data.loading.rng import derived_seed
from spikedistill.errors import ConfigError, TrainingError
from spikedistill.neurons.firing import firing_rates
from spikedistill.train.averaging import Average
from spikedistill.train.checkpoint import CheckpointFolder
from spikedistill.train.distributed import World
from spikedistill.train.interrupt import Interrupted, StopRequest
from spikedistill.train.network.encoding import sample_keys
from spikedistill.train.network.preparation import prepare
from spikedistill.train.objective import Batch, Objective
from spikedistill.train.optim import LearningRate, build_optimizer, can_capture, prepare_capture, set_learning_rate
from spikedistill.train.records.epoch import Clock, memory, summarise
from spikedistill.train.records.history import History, first_bad_column
from spikedistill.train.settings import EngineConfig, TrainConfig
from spikedistill.train.step.graph import GraphedUpdate
from spikedistill.train.step.update import Update
from spikedistill.train.tracking import Tracker
from spikedistill.train.validation import ACCURACY, Best, validate

log = logging.getLogger(__name__)

FINITE_CHECK_EVERY = 20  # steps between checks that the loss is finite


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
    with StopRequest() as stop, _stream(run):
        training = _Training(run, stop)
        try:
            training.run_to_the_end()
        finally:
            training.release()


def _uses_graph(run: Run) -> bool:
    return run.engine.cuda_graph and run.world.device.type == "cuda"


@contextlib.contextmanager
def _stream(run: Run) -> Iterator[None]:
    """Train on a stream of its own where steps are captured, which CUDA's default stream does not allow."""
    if not _uses_graph(run):
        yield
        return
    outer = torch.cuda.current_stream(run.world.device)
    stream = torch.cuda.Stream(run.world.device)
    stream.wait_stream(outer)
    with torch.cuda.stream(stream):
        yield
    outer.wait_stream(stream)


class _Training:
    """A run in progress: the network as it is trained, and the position in the run."""

    def __init__(self, run: Run, stop: StopRequest) -> None:
        self._run = run
        self._stop = stop
        self._average = Average(run.model, run.config.ema) if run.config.ema is not None else None
        self._replica = prepare(run.model, run.config, run.engine, run.world)
        self._optimizer = build_optimizer(run.model, run.config)
        self._learning_rate = LearningRate(run.config, run.loader.steps_per_epoch)
        self._best = Best() if run.config.select == "best" else None
        self._epoch = 0
        self._history = History(run.loader.steps_per_epoch)
        self._seconds_before = 0.0
        self._last_good = "nothing was saved yet"
        self._start_step = self._resume()
        self._first = (self._epoch, self._start_step)
        self._update = self._build_update()
        self._saved_at = time.monotonic()

    def _build_update(self) -> Callable[[Batch], dict[str, Tensor]]:
        """Return what updates the weights: a CUDA graph, if the engine's configuration asks for it and the device has them."""
        run = self._run
        update = Update(
            run.model, self._replica, run.objective, self._optimizer, self._average, run.config, run.engine.accumulate
        )
        captures = _uses_graph(run) and can_capture(self._optimizer)
        if _uses_graph(run) and not captures:
            log.warning(
                "engine.cuda_graph: optimizer %s is not known to run in one; training runs without", run.config.optimizer.name
            )
        prepare_capture(self._optimizer, captured=captures)
        return GraphedUpdate(update, run.world, self._reseed) if captures else update

    def run_to_the_end(self) -> None:
        run = self._run
        with run.tracker.open(self._epoch, self._start_step):
            while self._epoch < run.config.epochs:
                self._train_epoch()
        if self._average is not None:
            run.model.load_state_dict(self._average.network.state_dict())
        if self._best is not None:
            self._best.restore(run.model)
            log.info("kept the network of epoch %d, the best by validation: %.2f %%", self._best.epoch + 1, self._best.accuracy)

    def release(self) -> None:
        """Free the CUDA graph, if there is one: NCCL does not end while a graph holds its operations."""
        del self._update

    @property
    def _kept(self) -> nn.Module:
        """The network that is validated and kept: that with averaged weights, if there is one."""
        return self._run.model if self._average is None else self._average.network

    @property
    def _stateful(self) -> dict[str, Any]:
        """Everything whose state a checkpoint holds, by name."""
        parts = {"model": self._run.model, "optimizer": self._optimizer, "best": self._best, "average": self._average}
        return {name: part for name, part in parts.items() if part is not None}

    def _resume(self) -> int:
        """Load the newest checkpoint, if there is one; return how many steps of its epoch are done."""
        run = self._run
        state = _read_checkpoint(run)
        if state is None:
            return 0
        try:
            for name, part in self._stateful.items():
                part.load_state_dict(state[name])
            self._epoch, step = int(state["epoch"]), int(state["step"])
            self._history = History(run.loader.steps_per_epoch, state["history"])
            self._seconds_before = float(state.get("seconds", 0.0))  # not in checkpoints of earlier versions
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
        self._clock = clock = Clock(self._seconds_before)
        self._seconds_before = 0.0
        batches = clock.time_data(run.loader.epoch(self._epoch, self._start_step))
        for step, (inputs, labels) in enumerate(batches, self._start_step):
            agree = self._begin_to_agree(step)
            set_learning_rate(self._optimizer, self._learning_rate.at(self._epoch, step))
            self._history.record(step, self._step(step, inputs, labels))
            if (self._epoch, step) == self._first:
                self._check_gradients()
            clock.samples += labels.shape[-1] * run.world.world_size
            self._check_and_checkpoint(step + 1, *agree(), last=step + 1 == num_steps)
            if run.tracker.is_due():
                self._show(step + 1, clock)
        totals = self._check_finite(num_steps)
        clock.stop()
        metrics = summarise(totals) | clock.metrics() | memory(run.world)
        metrics["optim/lr"] = float(self._optimizer.param_groups[0]["lr"])
        if run.world.is_main_process:
            metrics |= firing_rates(self._kept, inputs.chunk(run.engine.accumulate, inputs.dim() - 4)[0])
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
        run.world.broadcast_buffers(self._kept)  # each rank has its own statistics; those of the main process are kept
        metrics = validate(self._kept, run.validation, run.world)
        if self._best is not None:
            self._best.offer(self._epoch, metrics[ACCURACY], self._kept)
        return metrics

    def _step(self, step: int, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Update the weights once; return the metrics of the step as tensors on the device, without waiting for them."""
        batch = self._batch(step, inputs, labels)
        self._run.objective.prepare(batch)
        self._reseed(batch)
        return self._update(batch)

    def _check_gradients(self) -> None:
        """After the first step, look for parameters that the loss does not depend on, with which ranks do not keep in step.

        Raises:
            ConfigError: if there are any, and several ranks.
        """
        unused = [name for name, p in self._run.model.named_parameters() if p.requires_grad and p.grad is None]
        if not unused:
            return
        shown = ", ".join(unused[:5]) + (", …" if len(unused) > 5 else "")
        if self._run.world.world_size > 1:
            raise ConfigError(
                f"the loss does not depend on {len(unused)} parameters of the network: {shown}. Ranks cannot average such "
                "gradients: set requires_grad = False for them, or use them, or train on one rank"
            )
        log.warning("the loss does not depend on %d parameters of the network, which stay as they are: %s", len(unused), shown)

    def _reseed(self, batch: Batch) -> None:
        """Seed what the model draws from the generators of the host and its device.

        `torch.manual_seed` seeds all devices; while CUDA is not in use, each call queues a deferred one with a traceback.
        """
        seed = derived_seed("step", self._run.seed, batch.epoch, batch.step, self._run.world.rank)
        torch.default_generator.manual_seed(seed)
        if self._run.world.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _batch(self, step: int, inputs: Tensor, labels: Tensor) -> Batch:
        """Return the samples of a step on this rank; `labels` are as the loader yields them."""
        run = self._run
        own, partners = labels if run.config.mixes else (labels, None)
        batch = Batch(
            inputs,
            own,
            self._epoch,
            step,
            first=run.world.rank * len(own),
            global_size=run.world.world_size * len(own),
            partners=partners,
            share=run.loader.share(self._epoch, step) if run.config.mixes else 1.0,
        )
        return replace(batch, keys=sample_keys(run.model, batch, run.seed))

    def _begin_to_agree(self, step: int) -> Callable[[], list[int]]:
        """Before a step, start asking all ranks what to do after it; return a function that gets the answer, the same on all.

        The answer reflects the moment before the step and arrives while the step computes: no rank waits for another one,
        unless it is a step ahead. A single rank decides by itself, at the moment after the step.
        """
        if self._run.world.world_size == 1:
            return lambda: self._wishes(step + 1)
        return self._run.world.begin_all_reduce_max(self._wishes(step))

    def _wishes(self, steps: int) -> list[int]:
        """Return what this rank asks for after some steps of the epoch, as numbers whose maximum over all ranks counts.

        Returns:
            The number of the signal to stop, or 0; 1 if a checkpoint is due, or 0; the number of steps from the first one
            whose loss is not finite to the end of the epoch, or 0 if all are finite or are not checked now.
        """
        run = self._run
        bad = self._history.first_bad_step(steps) if steps % FINITE_CHECK_EVERY == 0 else None
        due = time.monotonic() - self._saved_at >= 60 * run.engine.checkpoint_minutes and run.world.is_main_process
        return [self._stop.number, int(due), 0 if bad is None else run.loader.steps_per_epoch - bad]

    def _check_and_checkpoint(self, steps: int, signal: int, is_due: int, bad_from_end: int, *, last: bool) -> None:
        """After a step, do what the ranks have agreed on: see `_wishes`.

        Raises:
            TrainingError: if a loss was not finite.
            Interrupted: if a signal asks to stop; a checkpoint is written before.
        """
        if bad_from_end:
            raise self._not_finite(self._run.loader.steps_per_epoch - bad_from_end)
        if last or not (signal or is_due):  # after the last step, the end of the epoch saves
            return
        self._save(steps, self._check_finite(steps))
        if signal:
            self._run.world.all_reduce_max([0])  # a rank that left while the main process writes would have it killed
            self._leave(signal)

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
            state = {name: part.state_dict() for name, part in self._stateful.items()}
            seconds = self._clock.seconds if steps else 0.0
            run.checkpoints.save(self._epoch, steps, state | {"history": totals, "seconds": seconds})
        self._saved_at = time.monotonic()
        self._last_good = _moment(self._epoch, steps)

    def _leave(self, number: int) -> None:
        log.warning("stopped by signal %d; saved %s; run the same command again to resume", number, self._last_good)
        raise Interrupted(number)

    def _show(self, steps: int, clock: Clock) -> None:
        table = self._history.snapshot(steps)
        if table and len(table["loss"]):
            loss, accuracy = float(table["loss"][-1]), 100 * float(table["accuracy"].mean())
            self._run.tracker.show_step(self._epoch, steps, loss=loss, accuracy=accuracy, samples_per_s=clock.speed)


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
