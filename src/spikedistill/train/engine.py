"""The training loop, one for teachers and students.

Exact after an interruption, in mid-epoch too: the order and the augmentation of samples are functions of (seed, epoch), the
learning rate of the epoch, other random draws of (seed, epoch, step, rank), and the rest is in the checkpoint. On the CPU
the weights come out bit-identical.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from spikedistill.data.loading.loader import Loader
from spikedistill.data.malloc import keep_freed_memory
from spikedistill.errors import ConfigError, TrainingError
from spikedistill.models import ModelOutput
from spikedistill.neurons.lif import LIF
from spikedistill.train.batchnorm import synchronise
from spikedistill.train.blocks import checkpoint_blocks, compile_blocks, compile_neurons
from spikedistill.train.checkpoint import CheckpointFolder
from spikedistill.train.distributed import World
from spikedistill.train.history import History, first_bad_column
from spikedistill.train.interrupt import Interrupted, StopRequest
from spikedistill.train.optim import build_optimizer, learning_rate, set_learning_rate
from spikedistill.train.settings import EngineConfig, TrainConfig
from spikedistill.train.tracking import Tracker

log = logging.getLogger(__name__)

COMPILERS = ("g++", "clang++")
LOOK_STEPS = 20  # steps between looks at whether the loss is finite


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

    def __call__(self, outputs: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """Named terms of the loss, weighted; their sum is minimised.

        Args:
            outputs: what the model returned, in float32 or float64.
            batch: what the model got.
        """


@dataclass(frozen=True)
class Run:
    """Everything that one training run consists of.

    Attributes:
        model: trained in place; on `world.device`. It returns `ModelOutput`.
        objective: what is minimised.
        loader: the training split, in training order.
        settings: the recipe.
        seed: of what the model and the objective draw from torch's generators.
        world: the ranks.
        checkpoints: where to resume from.
        open_tracker: makes the tracker, given the epoch and the step that training starts from.
        options: what changes speed, memory and safety.
    """

    model: nn.Module
    objective: Objective
    loader: Loader
    settings: TrainConfig
    seed: int
    world: World
    checkpoints: CheckpointFolder
    open_tracker: Callable[[int, int], Tracker]
    options: EngineConfig = field(default_factory=EngineConfig)


def train(run: Run) -> None:
    """Train to the last epoch, from the newest checkpoint if there is one.

    Raises:
        TrainingError: if the loss is not finite, or a checkpoint cannot be used.
        ConfigError: if the recipe cannot run on this device.
        Interrupted: if a signal asked to stop; the state is saved.
    """
    with StopRequest() as stop:
        _Training(run, stop).run_to_the_end()


class _Training:
    """A run in progress: the network ready to train, and how far it is."""

    def __init__(self, run: Run, stop: StopRequest) -> None:
        self._run = run
        self._stop = stop
        self._replica = _prepare(run)
        self._optimizer = build_optimizer(run.model, run.settings)
        self._epoch = 0
        self._history = History(run.loader.steps_per_epoch)
        self._last_good = "nothing was saved yet"
        self._start_step = self._resume()
        self._saved_at = time.monotonic()

    def run_to_the_end(self) -> None:
        run = self._run
        with run.open_tracker(self._epoch, self._start_step) as tracker:
            while self._epoch < run.settings.epochs:
                set_learning_rate(self._optimizer, learning_rate(run.settings, self._epoch))
                self._train_epoch(tracker)

    def _resume(self) -> int:
        """Load the newest checkpoint, which only the leader reads; returns the steps that are done of its epoch."""
        run = self._run
        state = _read_checkpoint(run)
        if state is None:
            return 0
        try:
            run.model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._epoch, step = int(state["epoch"]), int(state["step"])
            self._history = History(run.loader.steps_per_epoch, state["history"])
        except (KeyError, RuntimeError, ValueError) as err:
            raise TrainingError(
                f"{run.checkpoints.folder}: the newest checkpoint does not fit this network and its optimizer; move it away "
                f"to start from the beginning ({str(err).strip().partition(chr(10))[0]})"
            ) from err
        self._last_good = _moment(self._epoch, step)
        log.info("going on from %s", self._last_good)
        return step

    def _train_epoch(self, tracker: Tracker) -> None:
        run = self._run
        self._replica.train()
        num_steps = run.loader.steps_per_epoch
        clock = _Clock()
        batches = clock.time_data(run.loader.epoch(self._epoch, self._start_step))
        for step, (inputs, labels) in enumerate(batches, self._start_step):
            _seed_draws(run, self._epoch, step)
            self._history.put(step, self._step(step, inputs, labels))
            clock.samples += len(labels) * run.world.world_size
            self._look_around(step + 1, last=step + 1 == num_steps)
            if tracker.is_due():
                self._show(tracker, step + 1, clock)
        totals = self._check_finite(num_steps)
        clock.stop()
        figures = _summarise(totals) | clock.figures() | _memory(run.world)
        figures["optim/lr"] = self._optimizer.param_groups[0]["lr"]
        if run.world.is_leader:
            figures |= _firing_rates(run.model, _split(inputs, run.options.accumulate)[0])
        tracker.record(self._epoch, figures)
        self._epoch += 1
        self._start_step = 0
        self._history = History(num_steps)
        self._save(0, {})
        (number,) = run.world.agree([self._stop.number])
        if number and self._epoch < run.settings.epochs:
            self._leave(number)

    def _step(self, step: int, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """One update of the weights; returns the figures of the step, which nobody waits for."""
        run, parts = self._run, self._run.options.accumulate
        first, global_size = run.world.rank * len(labels), run.world.world_size * len(labels)
        self._optimizer.zero_grad(set_to_none=True)
        figures: dict[str, Tensor] = {}
        pieces = zip(_split(inputs, parts), labels.chunk(parts), strict=True)
        for part, (x, y) in enumerate(pieces):
            with self._synchronised(part + 1 == parts):
                with torch.autocast(run.world.device.type, torch.bfloat16, enabled=run.settings.precision == "bf16"):
                    outputs = self._replica(x)
                outputs = outputs.in_full_precision()
                terms = run.objective(outputs, Batch(x, y, self._epoch, step, first + part * len(y), global_size))
                loss = torch.stack(list(terms.values())).sum()
                (loss / parts).backward()
            found = {"loss": loss, "accuracy": _accuracy(outputs, y), **{f"loss_{k}": v for k, v in terms.items()}}
            for name, value in found.items():
                figures[name] = figures.get(name, 0) + value.detach() / parts
        gradients = [p.grad for p in run.model.parameters() if p.grad is not None]
        figures["grad_norm"] = torch.nn.utils.get_total_norm(gradients)
        self._optimizer.step()
        return figures

    def _synchronised(self, wanted: bool) -> contextlib.AbstractContextManager[None]:
        """Within the block, whether backward averages the gradients over the ranks."""
        if wanted or not isinstance(self._replica, DistributedDataParallel):
            return contextlib.nullcontext()
        return self._replica.no_sync()

    def _look_around(self, steps: int, *, last: bool) -> None:
        """After a step: has anything gone wrong, is a checkpoint due, was a stop asked for? All ranks answer together."""
        run = self._run
        bad = self._history.first_bad_step(steps) if steps % LOOK_STEPS == 0 else None
        due = time.monotonic() - self._saved_at >= 60 * run.options.checkpoint_minutes and run.world.is_leader
        bad_from_end = 0 if bad is None else run.loader.steps_per_epoch - bad
        number, due_anywhere, bad_from_end = run.world.agree([self._stop.number, int(due), bad_from_end])
        if bad_from_end:
            raise self._not_finite(run.loader.steps_per_epoch - bad_from_end)
        if last or not (number or due_anywhere):  # after the last step the end of the epoch saves
            return
        self._save(steps, self._check_finite(steps))
        if number:
            self._leave(number)

    def _check_finite(self, steps: int) -> dict[str, Tensor]:
        """The history so far over all ranks; waits for the device.

        Raises:
            TrainingError: on all ranks, if a loss or a gradient was not finite on any.
        """
        totals = self._history.totals(steps, self._run.world)
        bad = first_bad_column(totals)
        if bad is not None:
            raise self._not_finite(bad)
        return totals

    def _not_finite(self, step: int) -> TrainingError:
        run = self._run
        return TrainingError(
            f"the loss or its gradient is not finite at epoch {self._epoch + 1} of {run.settings.epochs}, step {step + 1} of "
            f"{run.loader.steps_per_epoch}; last good: {self._last_good}. Lower train.lr, raise train.warmup_epochs, or "
            "set train.precision to float32"
        )

    def _save(self, steps: int, totals: dict[str, Tensor]) -> None:
        run = self._run
        if run.world.is_leader:
            state = {"model": run.model.state_dict(), "optimizer": self._optimizer.state_dict(), "history": totals}
            run.checkpoints.save(self._epoch, steps, state)
        self._saved_at = time.monotonic()
        self._last_good = _moment(self._epoch, steps)

    def _leave(self, number: int) -> None:
        log.warning("stopped by signal %d; saved %s; the same command goes on from there", number, self._last_good)
        raise Interrupted(number)

    def _show(self, tracker: Tracker, steps: int, clock: _Clock) -> None:
        seen = self._history.look(steps)
        if seen and len(seen["loss"]):
            loss, accuracy = float(seen["loss"][-1]), 100 * float(seen["accuracy"].mean())
            tracker.show_step(self._epoch, steps, loss=loss, accuracy=accuracy, samples_per_s=clock.speed)


class _Clock:
    """Where the time of an epoch goes, as far as this process ran it."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._seconds = 0.0
        self._data_s = 0.0
        self.samples = 0

    def time_data(self, batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Pass batches on, and measure how long they are waited for."""
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            self._data_s += time.perf_counter() - asked
            if batch is None:
                return
            yield batch

    def stop(self) -> None:
        self._seconds = time.perf_counter() - self._started

    @property
    def speed(self) -> float:
        """Samples per second so far, over all ranks."""
        return self.samples / (self._seconds or time.perf_counter() - self._started)

    def figures(self) -> dict[str, float]:
        share = 100 * self._data_s / self._seconds
        return {"time/epoch(s)": self._seconds, "time/throughput(samples/s)": self.speed, "time/data(%)": share}


def _prepare(run: Run) -> nn.Module:
    """The model as the ranks train it."""
    model, options, device = run.model, run.options, run.world.device
    per_rank = run.settings.batch_size // run.world.world_size
    if per_rank % options.accumulate:
        raise ConfigError(
            f"engine.accumulate {options.accumulate} does not divide the {per_rank} samples that each of the "
            f"{run.world.world_size} ranks gets of train.batch_size {run.settings.batch_size}; change one"
        )
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster convolutions, same values
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    else:
        keep_freed_memory()
    if run.world.world_size > 1 and run.settings.sync_batchnorm:
        synchronise(model, device)
    if options.compile:
        _compile(model, device)
    if options.checkpoint_activations:
        checkpoint_blocks(model)
    if run.world.world_size == 1:
        return model
    device_ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=device_ids, gradient_as_bucket_view=True)


def _compile(model: nn.Module, device: torch.device) -> None:
    """On a GPU whole blocks; on a CPU, where convolutions are the library's, the neurons alone, which starts in seconds."""
    if device.type == "cuda":
        compile_blocks(model)
        return
    if not any(shutil.which(name) for name in COMPILERS):
        raise ConfigError(
            f"engine.compile: needs one of {', '.join(COMPILERS)}, and none is installed; install one, or set it to false"
        )
    compile_neurons(model)


def _read_checkpoint(run: Run) -> dict[str, Any] | None:
    """The newest checkpoint, on all ranks; they need not see the folder, and all fail alike."""
    state, problem = None, None
    if run.world.is_leader:
        try:
            state = run.checkpoints.load_newest(torch.device("cpu"))
        except TrainingError as err:
            problem = str(err)
    state, problem = run.world.share((state, problem))
    if problem:
        raise TrainingError(problem)
    return state


def _moment(epoch: int, step: int) -> str:
    return f"the checkpoint after epoch {epoch}" + (f" and {step} steps" if step else "")


def _seed_draws(run: Run, epoch: int, step: int) -> None:
    """Make what the model and the objective draw from torch's generators a function of the moment and the rank."""
    key = f"{run.seed} {epoch} {step} {run.world.rank}".encode()
    torch.manual_seed(int.from_bytes(sha256(key).digest()[:8], "big"))


def _split(inputs: Tensor, parts: int) -> tuple[Tensor, ...]:
    """Parts of a batch of images [B, C, H, W] or frames [T, B, C, H, W]."""
    return inputs.chunk(parts, dim=inputs.dim() - 4)


def _accuracy(outputs: ModelOutput, labels: Tensor) -> Tensor:
    """Share of the samples that the prediction puts into the right class."""
    return (outputs.prediction.detach().argmax(-1) == labels).double().mean()


def _summarise(totals: dict[str, Tensor]) -> dict[str, float]:
    """The figures of an epoch, from those of its steps."""
    mean = {name: float(row.mean()) for name, row in totals.items()}
    accuracy, grad_norm = mean.pop("accuracy"), mean.pop("grad_norm")
    return {
        **{f"train/{name}": value for name, value in mean.items()},
        "train/accuracy(%)": 100 * accuracy,
        "optim/grad_norm": grad_norm,
    }


def _memory(world: World) -> dict[str, float]:
    """The most memory that this process ever held, on the device it computes on."""
    if world.device.type == "cuda":
        return {"mem/peak(GiB)": torch.cuda.max_memory_allocated(world.device) / 2**30}
    return {"mem/peak(GiB)": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


@torch.no_grad()
def _firing_rates(model: nn.Module, inputs: Tensor) -> dict[str, float]:
    """How often the neurons of each layer fire on a batch, in evaluation mode; nothing for a network without neurons."""
    seen: dict[str, tuple[Tensor, int]] = {}  # rate, number of chances to fire

    def see(name: str, out: Tensor) -> None:
        seen[name] = out.float().mean(), out.numel()

    layers = {name: module for name, module in model.named_modules() if isinstance(module, LIF)}
    if not layers:
        return {}
    hooks = [layer.register_forward_hook(lambda m, x, out, name=name: see(name, out)) for name, layer in layers.items()]
    training = model.training
    model.eval()
    with torch.compiler.set_stance("force_eager"):
        model(inputs)
    model.train(training)
    for hook in hooks:
        hook.remove()
    chances = sum(number for _, number in seen.values())
    mean = sum(float(rate) * number for rate, number in seen.values()) / chances
    return {"spike/rate": mean, **{f"spike/rate_{name}": float(rate) for name, (rate, _) in seen.items()}}
