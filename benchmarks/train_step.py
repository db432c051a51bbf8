"""A training step of this engine beside a reference-style one, in turns, in one run; with its parts, memory and a roofline.

    python benchmarks/train_step.py --precision bf16 --compile --out benchmarks/results/train_step_cpu.json
    python benchmarks/train_step.py --device cuda --config all --precision bf16 --compile --out results/train_step_gpu.json

Ours is `train.engine.train` itself on generated samples, with the loader, the method and the teacher of a real run; hooks note
when each part begins. The reference-style step does what the published scripts do: float32, neurons as a Python loop over T with
SpikingJelly's LIFNode, the input repeated T times, nothing compiled; same method, teacher, weights and batch. Each is a process
of its own, and they take turns, step by step, so that whatever else the machine does slows down both. On a machine that is busy
with other work `--threads 1` and the processor time, which is reported too, say more than the time by the clock.

The roofline is the larger of two times: operations (3 forward passes of the student, 1 of the teacher) over the measured rate of
matrix products in the same precision, and bytes (every layer output written and read once forward, three times backward) over
the measured rate of copies.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import multiprocessing.connection
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from spikedistill import components
from spikedistill.data.loading.loader import Loader
from spikedistill.data.store import SampleStore
from spikedistill.distill.method_inputs import MethodInputs
from spikedistill.models import build_student, build_teacher
from spikedistill.neurons.lif import LIF
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.plan.stages import DistillSpec
from spikedistill.stages.distill import Distillation
from spikedistill.train.checkpoint import CheckpointFolder
from spikedistill.train.distributed import World
from spikedistill.train.engine import Run, train
from spikedistill.train.settings import EngineConfig, TrainConfig
from spikedistill.train.tracking import Tracker

PARTS = ("data", "forward", "teacher", "backward", "optimizer")
SEED = 0
MIB = 2**20


@dataclass(frozen=True)
class Config:
    """What is trained."""

    arch: str
    teacher: str
    steps: int
    sample: tuple[int, ...]
    kind: str
    classes: int
    method: str


CONFIGS = {
    "digits-resnet8": Config("resnet8", "resnet8", 2, (1, 8, 8), "images", 10, "sealkd"),
    "cifar-resnet18": Config("resnet18", "resnet34", 4, (3, 32, 32), "images", 10, "sealkd"),
    "cifar-resnet19": Config("resnet19", "resnet19", 6, (3, 32, 32), "images", 100, "tdd"),
    "dvs-resnet18": Config("resnet18", "resnet19", 10, (2, 48, 48), "frames", 10, "sealkd"),
    "imagenet-preact34": Config("preact_resnet34_imagenet", "resnet34_imagenet", 4, (3, 224, 224), "images", 1000, "sealkd"),
}
BATCH = {
    "cpu": {"digits-resnet8": 32, "cifar-resnet18": 32, "cifar-resnet19": 16, "dvs-resnet18": 4, "imagenet-preact34": 4},
    "cuda": {},
}


@dataclass(frozen=True)
class Case:
    """One comparison."""

    name: str
    backward: str
    batch: int
    device: str
    precision: str
    compile: bool
    repeats: int
    warmup: int
    threads: int

    @property
    def config(self) -> Config:
        """What is trained."""
        return CONFIGS[self.name]

    @property
    def method(self) -> tuple[str, dict[str, Any]]:
        """A method that the backward pass allows, with its parameters."""
        return (self.config.method, {}) if self.backward == "bptt" else ("kd", {"logits": "mean"})


def make_store(case: Case) -> SampleStore:
    """Samples for every step."""
    config, generator = case.config, np.random.default_rng(SEED)
    size = case.batch * (case.repeats + case.warmup)
    shape = config.sample if config.kind == "images" else (config.steps, *config.sample)
    samples = generator.integers(0, 256 if config.kind == "images" else 4, (size, *shape), dtype=np.uint8)
    channels = config.sample[0]
    mean, std = ((0.5,) * channels, (0.25,) * channels) if config.kind == "images" else (None, None)
    names = tuple(str(k) for k in range(config.classes))
    rows = np.arange(size)
    return SampleStore(config.kind, samples, rows % config.classes, {"train": rows}, names, mean, std)  # type: ignore[arg-type]


def make_teacher(case: Case) -> nn.Module:
    """An ANN of random weights that does not train."""
    torch.manual_seed(SEED + 1)
    config = case.config
    teacher = build_teacher(config.teacher, num_classes=config.classes, in_channels=config.sample[0])
    return teacher.requires_grad_(False).eval().to(case.device)


def make_student(case: Case, backward: str) -> nn.Module:
    """The student, with the same weights whatever it runs on."""
    torch.manual_seed(SEED)
    config = case.config
    neuron = NeuronConfig(decay=0.2, reset="soft", detach_reset=True) if case.backward == "rate" else NeuronConfig()
    return build_student(
        config.arch,
        num_classes=config.classes,
        in_channels=config.sample[0],
        time_steps=config.steps,
        neuron=neuron,
        backward=backward,  # type: ignore[arg-type]
    ).to(case.device)


class Stopwatch:
    """Marks the moments of a step; on a GPU it waits for the device at each mark of a step whose parts are wanted."""

    def __init__(self, device: str) -> None:
        self.device, self.detailed, self.marks = device, False, dict[str, float]()
        self.cpu_started = 0.0

    def mark(self, name: str, *, always: bool = False) -> None:
        """Note that `name` begins now."""
        if name == "data":
            self.cpu_started = time.process_time()
        if self.device == "cuda" and (always or self.detailed):
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


def peak_mib(device: str) -> float:
    """The most memory so far."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / MIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class InTurns:
    """A loader that waits to be told before each batch, and reports the step before."""

    def __init__(self, loader: Loader, watch: Stopwatch, line: multiprocessing.connection.Connection) -> None:
        self._loader, self._watch, self._line = loader, watch, line
        self.steps_per_epoch = loader.steps_per_epoch

    def epoch(self, *position: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch."""
        batches = self._loader.epoch(*position)
        while True:
            self._watch.detailed = self._line.recv()
            self._watch.marks.clear()
            self._watch.mark("data", always=True)
            batch = next(batches, None)
            if batch is None:
                return
            self._watch.mark("forward")
            yield batch
            self._watch.mark("end", always=True)
            self._line.send(self._watch.parts() | {"peak_mib": peak_mib(self._watch.device)})


def ours(case: Case, line: multiprocessing.connection.Connection) -> None:
    """Steps of the engine."""
    torch.set_num_threads(case.threads)
    idle_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    watch = Stopwatch(case.device)
    student, teacher = make_student(case, case.backward), make_teacher(case)
    teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    student.register_forward_hook(lambda *_: watch.mark("teacher 0"))
    teacher.register_forward_pre_hook(lambda *_: watch.mark("teacher"))
    teacher.register_forward_hook(lambda *_: watch.mark("backward"))
    register_optimizer_step_pre_hook(lambda *_: watch.mark("optimizer"))
    method, params = case.method
    settings = TrainConfig(epochs=1, batch_size=case.batch, lr=0.01, precision=case.precision)  # type: ignore[arg-type]
    spec = DistillSpec.model_construct(method=method, params=params, seed=SEED, time_steps=case.config.steps, train=settings)
    world = World(device=torch.device(case.device))
    loader = Loader(make_store(case), "train", batch_size=case.batch, seed=SEED, shuffle=True, device=world.device)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(
            model=student,
            objective=Distillation(spec, teacher),  # type: ignore[arg-type]
            loader=InTurns(loader, watch, line),  # type: ignore[arg-type]
            config=settings,
            seed=SEED,
            world=world,
            checkpoints=CheckpointFolder(Path(folder) / "checkpoints", "benchmark"),
            tracker=Tracker(
                Path(folder) / "metrics.jsonl",
                Path(folder) / "tensorboard",
                num_epochs=1,
                steps_per_epoch=loader.steps_per_epoch,
            ),
            engine=EngineConfig(compile=case.compile, checkpoint_minutes=1e6),
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


def reference(case: Case, line: multiprocessing.connection.Connection) -> None:
    """Steps as the published scripts do them."""
    torch.set_num_threads(case.threads)
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
    for x, labels in InTurns(loader, watch, line).epoch(0):
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
def worker(target: Callable[..., None], case: Case) -> Iterator[tuple[multiprocessing.connection.Connection, float]]:
    """A process, and the memory in MiB that it had before it began."""
    context = multiprocessing.get_context("spawn")
    line, theirs = context.Pipe()
    process = context.Process(target=target, args=(case, theirs))
    process.start()
    theirs.close()
    try:
        yield line, line.recv()
    finally:
        process.kill()  # training takes SIGTERM for a wish to stop after the step
        process.join()


def compare(case: Case) -> dict[str, Any]:
    """Steps of both in turns."""
    samples: dict[str, list[dict[str, float]]] = {"ours": [], "reference": []}
    with worker(ours, case) as (our_line, our_idle), worker(reference, case) as (their_line, their_idle):
        lines = {"ours": (our_line, our_idle), "reference": (their_line, their_idle)}
        started = time.perf_counter()
        for step in range(case.warmup + case.repeats):
            for name, (line, _) in lines.items():
                line.send(case.device == "cpu" or step % 2 == 1)
                samples[name].append(line.recv())
            if step == 0:
                first_s = samples["ours"][0]["step"]
            print(f"  step {step}: " + ", ".join(f"{n} {s[-1]['step'] * 1e3:.0f} ms" for n, s in samples.items()), flush=True)
        elapsed = time.perf_counter() - started
    result: dict[str, Any] = {}
    for name, (_, idle) in lines.items():
        steps = samples[name][case.warmup :]
        whole = [s["step"] for s in (steps if case.device == "cpu" else steps[case.warmup % 2 :: 2])]
        seconds = statistics.median(whole)
        result[name] = {
            "step_ms": 1e3 * seconds,
            "samples_per_s": case.batch / seconds,
            "cpu_ms": 1e3 * statistics.median(s["cpu"] for s in steps),
            "parts_ms": {part: 1e3 * statistics.median(s[part] for s in steps) for part in PARTS},
            "peak_mib": steps[-1]["peak_mib"] - (0 if case.device == "cuda" else idle),
        }
    ratios = [
        r["step"] / o["step"] for o, r in zip(samples["ours"][case.warmup :], samples["reference"][case.warmup :], strict=True)
    ]
    result["speedup"] = result["reference"]["step_ms"] / result["ours"]["step_ms"]
    result["speedup_in_cpu_time"] = result["reference"]["cpu_ms"] / result["ours"]["cpu_ms"]
    result["speedup_of_each_pair"] = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    result["first_step_s"] = first_s
    result["seconds"] = elapsed
    return result


def rate_of(work: float, function: Callable[[], object], device: str) -> float:
    """`work` per second, at best."""
    best = float("inf")
    for _ in range(7):
        if device == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return work / best


def measure_machine(device: str, threads: int) -> dict[str, float]:
    """Rates of matrix products and of copies."""
    torch.set_num_threads(threads)
    side = 2048 if device == "cpu" else 8192
    rates = {}
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        rates[f"matmul_{name}_gflops"] = rate_of(2 * side**3, lambda a=a, b=b: a @ b, device) / 1e9
    x = torch.randn(2**26, device=device)
    y = torch.empty_like(x)
    rates["copy_gb_per_s"] = rate_of(2 * 4 * x.numel(), lambda: y.copy_(x), device) / 1e9
    return rates


def roofline(case: Case, machine: dict[str, float]) -> dict[str, float]:
    """The time of a step that neither arithmetic nor memory allows to undercut, roughly."""
    table = json.loads(Path(components.__file__).with_name("plan").joinpath("costs.json").read_text(encoding="utf-8"))
    config = case.config
    student, teacher = table[config.arch], table[config.teacher]
    pixels = (config.sample[-1] / student["side"]) ** 2
    runs = case.batch * pixels
    if case.backward == "bptt":
        passes = 3 * config.steps
        moved = 5 * config.steps
    else:
        passes = config.steps + 3  # a forward pass of every step, then one step forward and backward
        moved = 2 * config.steps + 5
    operations = 2 * runs * (passes * student["macs"] + teacher["macs"])
    width = 2 if case.precision == "bf16" else 4
    transported = runs * width * (moved * student["elements"] + 2 * teacher["elements"])
    compute_ms = operations / machine[f"matmul_{case.precision}_gflops"] / 1e6
    memory_ms = transported / machine["copy_gb_per_s"] / 1e6
    return {
        "gflop": operations / 1e9,
        "gbyte": transported / 1e9,
        "compute_ms": compute_ms,
        "memory_ms": memory_ms,
        "bound_ms": max(compute_ms, memory_ms),
    }


def describe(device: str, threads: int) -> dict[str, Any]:
    """The machine and the software."""
    name = torch.cuda.get_device_name() if device == "cuda" else processor()
    load = os.getloadavg()[0]
    return {
        "device": name,
        "threads": threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load_at_start": load,
    }


def processor() -> str:
    """The name of the processor."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", nargs="+", default=["cifar-resnet18"], choices=[*CONFIGS, "all"])
    parser.add_argument("--backward", nargs="+", default=["bptt"], choices=["bptt", "rate"])
    parser.add_argument("--precision", default="float32", choices=["float32", "bf16"], help="of our step")
    parser.add_argument("--compile", action="store_true", help="as engine.compile, in our step")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--short", action="store_true", help="little of everything: shows that it runs, not how fast")
    parser.add_argument("--batch-size", type=int, help="default: 128 on a GPU, what takes a second or so on a CPU")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="CPU threads")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.short:
        options.config, options.repeats, options.warmup = ["digits-resnet8"], 1, 1
    names = list(CONFIGS) if "all" in options.config else options.config
    machine = measure_machine(options.device, options.threads)
    report: dict[str, Any] = {
        "command": "python benchmarks/train_step.py " + " ".join(sys.argv[1:]),
        **describe(options.device, options.threads),
        "rates": machine,
        "cases": [],
    }
    for name in names:
        for backward in options.backward:
            batch = options.batch_size or BATCH[options.device].get(name, 128)
            case = Case(
                name,
                backward,
                batch,
                options.device,
                options.precision,
                options.compile,
                options.repeats,
                options.warmup,
                options.threads,
            )
            print(
                f"{name}, {backward}, T {case.config.steps}, batch {batch}, {case.precision}, compile {case.compile}", flush=True
            )
            result = {"config": name, "backward": backward, "batch_size": batch, "precision": case.precision} | compare(case)
            result["roofline"] = roofline(case, machine)
            report["cases"].append(result)
            for who in ("ours", "reference"):
                row = result[who]
                parts = ", ".join(f"{part} {ms:.0f}" for part, ms in row["parts_ms"].items())
                rate, peak = row["samples_per_s"], row["peak_mib"]
                print(f"  {who:>9}: {row['step_ms']:.0f} ms ({parts}), {rate:.1f} images/s, {peak:.0f} MiB")
            in_cpu_time = f"{result['speedup_in_cpu_time']:.2f} in processor time"
            print(
                f"  {result['speedup']:.2f} times as fast, {in_cpu_time}; roofline {result['roofline']['bound_ms']:.0f} ms",
                flush=True,
            )
            if options.out:
                options.out.parent.mkdir(parents=True, exist_ok=True)
                options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
