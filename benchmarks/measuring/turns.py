"""The two sides of the benchmark of training steps: processes that run steps when told to, and say how long these took."""

from __future__ import annotations

import contextlib
import itertools
import logging
import multiprocessing
import multiprocessing.connection
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from measuring.cases import SEED, Case, make_store, make_student, make_teacher
from measuring.machine import prepare_device
from spikedistill import components
from spikedistill.data.loading.loader import Loader
from spikedistill.distill.method_inputs import MethodInputs
from spikedistill.neurons.lif import LIF
from spikedistill.plan.stages import DistillSpec
from spikedistill.stages.distill import Distillation
from spikedistill.train.checkpoint import CheckpointFolder
from spikedistill.train.distributed import World
from spikedistill.train.engine import Run, train
from spikedistill.train.network.preparation import prepare_teacher
from spikedistill.train.settings import TrainConfig
from spikedistill.train.tracking import Tracker

PARTS = ("data", "forward", "teacher", "backward", "optimizer")
MIB = 2**20
Line = multiprocessing.connection.Connection


class Stopwatch:
    """Marks the parts of a step, waiting for the GPU at each mark, or times a block of steps, without waiting."""

    def __init__(self, device: str) -> None:
        self.device, self.detailed, self.marks = device, False, dict[str, float]()
        self.cpu_started = 0.0
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if device == "cuda" else []

    def mark(self, name: str) -> None:
        """Note that `name` begins now."""
        if name == "data":
            self.cpu_started = time.process_time()
        if self.device == "cuda":
            if not self.detailed:
                return
            torch.cuda.synchronize()
        self.marks[name] = time.perf_counter()

    def parts(self) -> dict[str, float]:
        """Seconds of each part of the step that ended."""
        names = sorted(self.marks, key=lambda name: self.marks[name])
        seconds = dict.fromkeys(PARTS, 0.0)
        for name, following in itertools.pairwise(names):
            seconds[name.partition(" ")[0]] += self.marks[following] - self.marks[name]
        cpu = time.process_time() - self.cpu_started
        return seconds | {"step": self.marks["end"] - self.marks["data"], "cpu": cpu}

    def start_block(self) -> None:
        """Note that a block of steps on a GPU begins now."""
        torch.cuda.synchronize()
        self.cpu_started = time.process_time()
        self._events[0].record()

    def block(self, steps: int) -> dict[str, float]:
        """Seconds of a step of the block that ended."""
        self._events[1].record()
        cpu = time.process_time() - self.cpu_started
        self._events[1].synchronize()
        return {"step": self._events[0].elapsed_time(self._events[1]) / 1e3 / steps, "cpu": cpu / steps}


def peak_mib(device: str) -> float:
    """Peak memory so far; on a GPU, that of tensors, without the allocator's reserve."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / MIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class InTurns:
    """A loader that waits to be told before each step, or each block of steps on a GPU, and reports when it ended."""

    def __init__(self, loader: Loader, watch: Stopwatch, line: Line, steps: int) -> None:
        self._loader, self._watch, self._line, self._notes = loader, watch, line, Notes()
        self.steps_per_epoch = steps

    def epoch(self, *position: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of all epochs, as one."""
        batches = itertools.chain.from_iterable(self._loader.epoch(epoch) for epoch in itertools.count())
        while True:
            steps = self._line.recv()
            yield from self._block(batches, steps) if steps > 1 else self._step(batches)

    def _step(self, batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        self._watch.detailed = True
        self._watch.marks.clear()
        self._watch.mark("data")
        batch = next(batches)
        self._watch.mark("forward")
        yield batch
        self._watch.mark("end")
        self._watch.detailed = False
        self._line.send(self._watch.parts() | self._rest())

    def _block(self, batches: Iterator[tuple[Tensor, Tensor]], steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        self._watch.start_block()
        yield from itertools.islice(batches, steps)
        self._line.send(self._watch.block(steps) | self._rest())

    def _rest(self) -> dict[str, Any]:
        reserved = {"reserved_mib": torch.cuda.max_memory_reserved() / MIB} if self._watch.device == "cuda" else {}
        return {"peak_mib": peak_mib(self._watch.device), "notes": self._notes.lines} | reserved


class Notes(logging.Handler):
    """What the engine logs about how it computes, such as whether a step runs as a CUDA graph."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        logger = logging.getLogger("spikedistill.train")
        logger.setLevel(logging.INFO)
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message, unless it is one of progress, which a slow machine logs too."""
        if record.name != Tracker.__module__:
            self.lines.append(record.getMessage())


def ours(case: Case, line: Line) -> None:
    """Steps of the engine."""
    torch.set_num_threads(case.threads)
    prepare_device(case.device)
    idle_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    watch = Stopwatch(case.device)
    student, teacher = make_student(case, case.backward), prepare_teacher(make_teacher(case), torch.device(case.device))
    student.register_forward_hook(lambda *_: watch.mark("teacher 0"))
    teacher.register_forward_pre_hook(lambda *_: watch.mark("teacher"))
    teacher.register_forward_hook(lambda *_: watch.mark("backward"))
    register_optimizer_step_pre_hook(lambda *_: watch.mark("optimizer"))
    method, params = case.method
    settings = TrainConfig(epochs=1, batch_size=case.batch, lr=0.01, precision=case.precision)  # type: ignore[arg-type]
    named = {"method": method, "params": params, "seed": SEED, "time_steps": case.config.steps, "train": settings}
    spec = DistillSpec.model_construct(**named)  # only what the loss reads
    world = World(device=torch.device(case.device))
    loader = Loader(make_store(case), "train", batch_size=case.batch, seed=SEED, shuffle=True, device=world.device)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(
            model=student,
            objective=Distillation(spec, teacher),
            loader=InTurns(loader, watch, line, case.steps + 1),  # type: ignore[arg-type]
            config=settings,
            seed=SEED,
            world=world,
            checkpoints=CheckpointFolder(Path(folder) / "checkpoints", "benchmark"),
            tracker=Tracker(
                Path(folder) / "metrics.jsonl",
                Path(folder) / "tensorboard",
                num_epochs=1,
                steps_per_epoch=case.steps + 1,
            ),
            engine=case.engine,
        )
        line.send(idle_mib)
        train(run)


class LoopedLIF(nn.Module):
    """SpikingJelly's neuron, a Python loop over time."""

    def __init__(self, layer: LIF) -> None:
        super().__init__()
        from spikingjelly.activation_based import neuron, surrogate

        self.time_steps = layer.time_steps
        self.node = neuron.LIFNode(
            tau=1 / (1 - layer.neuron.decay),
            decay_input=False,
            v_threshold=layer.neuron.threshold,
            v_reset=0.0 if layer.neuron.reset == "hard" else None,
            detach_reset=layer.neuron.detach_reset,
            surrogate_function=surrogate.Sigmoid(alpha=layer.neuron.alpha),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Spikes [T * B, ...] of the currents [T * B, ...]."""
        self.node.reset()
        return torch.stack([self.node(x_t) for x_t in x.unflatten(0, (self.time_steps, -1))]).flatten(0, 1)


def with_looped_neurons(module: nn.Module) -> nn.Module:
    """Replace the neurons of a network in place."""
    for name, child in module.named_children():
        if isinstance(child, LIF):
            setattr(module, name, LoopedLIF(child))
        else:
            with_looped_neurons(child)
    return module


def reference(case: Case, line: Line) -> None:
    """Steps as the published scripts do them."""
    torch.set_num_threads(case.threads)
    prepare_device(case.device)
    torch.set_float32_matmul_precision("highest")
    idle_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    watch, config = Stopwatch(case.device), case.config
    student = with_looped_neurons(make_student(case, "bptt")).train()
    teacher = make_teacher(case)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    name, given = case.method
    method = components.load("distill", name)
    params = method.Params.model_validate(given)
    loader = Loader(make_store(case), "train", batch_size=case.batch, seed=SEED, shuffle=True, device=case.device)
    line.send(idle_mib)
    for x, labels in InTurns(loader, watch, line, case.steps + 1).epoch():
        repeated = x.expand(config.steps, *x.shape).contiguous() if x.dim() == 4 else x
        logits = student(repeated).logits
        watch.mark("teacher")
        with torch.no_grad():
            told = teacher(x).logits
        watch.mark("backward")
        loss = sum(method.loss(MethodInputs(logits, labels, told), params).values())
        optimizer.zero_grad()
        loss.backward()
        watch.mark("optimizer")
        optimizer.step()


@contextlib.contextmanager
def worker(target: Callable[..., None], case: Case) -> Iterator[tuple[Line, float]]:
    """A process, and the memory in MiB that it had before it began."""
    context = multiprocessing.get_context("spawn")
    line, theirs = context.Pipe()
    process = context.Process(target=target, args=(case, theirs))
    process.start()
    theirs.close()
    try:
        yield line, line.recv()
    finally:
        process.kill()  # training takes SIGTERM as a request to stop after the step
        process.join()
