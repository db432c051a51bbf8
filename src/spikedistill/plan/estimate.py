"""Estimate the cost of stages before anything runs: time, GPU memory and host memory. Imports no torch.

A training step takes (macs / rate + elements / bandwidth) seconds, with the multiply-accumulates and the elements of layer
outputs of one forward pass over all time steps; costs.json has the counts of each architecture, and
benchmarks/costs.py makes them and fits the two constants of a machine. A factor of two either way is to be expected.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from spikedistill import components
from spikedistill.evaluate.settings import MAX_BATCH_SIZE
from spikedistill.plan.build import CHANNEL_KEYS, Plan
from spikedistill.plan.stages import STAGES, DistillSpec, EvaluateSpec, NetworkSpec, PreprocessSpec, TeacherSpec
from spikedistill.train.settings import OptimizerConfig, TrainConfig


@dataclass(frozen=True)
class Machine:
    """The speed of training on one core or one GPU, per second.

    Attributes:
        macs: multiply-accumulates of the forward pass that training processes, backward pass included.
        elements: elements of layer outputs, likewise.
    """

    macs: float
    elements: float


# Measured by benchmarks/costs.py --measure on two cores of a server, per core.
CORE = Machine(macs=2.7e10, elements=1.2e8)
# Assumed for a GPU like the A100, from its published rates; not measured.
GPU = {"float32": Machine(macs=3.3e12, elements=3e10), "bf16": Machine(macs=6.6e12, elements=4e10)}
GPU_MEMORY_MB = 40_000
GPU_SCALING = 0.9  # speed that each further GPU of a job adds, as a share of the first

EVALUATE_SHARE = 0.5  # cost of a measuring pass, as a share of a training step
HELD_BYTES = {"float32": 3.9, "bf16": 2.9}  # held for the backward pass per element of a layer's output; measured in float32
PARAMETER_BYTES = 16  # weight, gradient, momentum, and a bucket of gradients in flight
COPY_BYTES = 4  # of each further copy of the weights: second moments of an optimizer, averaged weights
GPU_BASE_MB = 1_500  # context, workspaces, allocator
RANK_BASE_MB = 1_600  # interpreter and libraries of a rank
GPU_RANK_BASE_MB = 6_000
START_S = 20.0  # of a stage: interpreter, libraries, reading, checksums
DECODED_PER_CORE = 450.0  # JPEG images per second, decoded, cropped and resized; measured
RESIDENT_MB = 256  # a split up to this size is kept in the memory of the CPU
FILES_SIDE = 160  # datasets of images larger than this stay in the user's files

STAND_IN = "resnet18"  # counts for an architecture that is not in costs.json
STAND_IN_SAMPLES = (50_000, 10_000)
USUAL_SIDE = 224  # of images for another library's weights
SMALL_HOURS = 0.5  # stages shorter than this on CPUs request no GPU
LONGEST_HOURS = 24.0  # a job that would take longer than this requests more GPUs
GPU_COUNTS = (1, 2, 4, 8)
CPUS = 2
CPUS_PER_GPU = 4
CPUS_PER_GPU_FILES = 12


@dataclass(frozen=True)
class Cost:
    """The cost of one stage.

    Attributes:
        hours: wall time.
        gpus: number of GPUs in all, 0 for none.
        cpus: CPUs of each rank.
        gpu_mb: memory that each GPU needs.
        host_mb: memory that each rank needs on the host.
        guessed: what was not known, such as an architecture without counts.
    """

    hours: float
    gpus: int
    cpus: int
    gpu_mb: int
    host_mb: int
    guessed: tuple[str, ...] = ()

    @property
    def gpu_hours(self) -> float:
        """Hours of one GPU."""
        return self.hours * self.gpus

    @property
    def cpu_hours(self) -> float:
        """Hours of one CPU."""
        return self.hours * self.cpus * max(1, self.gpus)


@dataclass(frozen=True)
class _Work:
    """The work of a stage: samples, and counts per sample."""

    samples: float
    macs: float
    elements: float
    held_elements: float
    transient_elements: float
    parameter_bytes: float
    batch: int
    precision: str
    sample_bytes: int
    store_bytes: int
    from_files: bool
    guessed: tuple[str, ...]


@functools.cache
def _counts() -> dict[str, dict[str, float]]:
    return json.loads(Path(__file__).with_name("costs.json").read_text(encoding="utf-8"))


class Estimator:
    """Estimates the costs of the stages of one plan."""

    def __init__(self, plan: Plan) -> None:
        """Calculate nothing yet: every cost is calculated when it is first asked for."""
        self._plan = plan
        self._known: dict[tuple[str, int | None], Cost] = {}

    def __call__(self, ref: str, gpus: int | None = None) -> Cost:
        """Return the cost of the stage that makes `ref`.

        Args:
            ref: reference of its artifact.
            gpus: on so many GPUs; None: on as few as it fits on and ends within a day, none if CPUs will do.
        """
        if (ref, gpus) not in self._known:
            self._known[ref, gpus] = self._estimate(self._plan.stages[ref], gpus)
        return self._known[ref, gpus]

    def _estimate(self, spec: Any, gpus: int | None) -> Cost:
        """Apply the cost model that the table of stages names for a spec."""
        model = STAGES[spec.stage].cost
        if model == "preprocessing":
            return _preprocess(spec)
        if model == "training" and spec.train is None:
            return self._import(spec)
        work = self._evaluation(spec) if model == "evaluation" else self._training(spec)
        return _chosen(work, divisible=model == "training") if gpus is None else _on(work, gpus)

    def _import(self, spec: NetworkSpec) -> Cost:
        """Return the cost of an import: the file is in memory three times, as bytes, as tensors and as a network."""
        try:
            size = Path(self._plan.weights[spec.ref]).expanduser().stat().st_size
        except OSError:
            size = 0
        return Cost(START_S / 3600, 0, CPUS, 0, RANK_BASE_MB + math.ceil(3 * size / 1e6))

    def _training(self, spec: NetworkSpec) -> _Work:
        assert spec.train is not None
        data = _Data.of(self._plan, spec)
        network, scale, width, guessed = _scaled_counts(spec, data)
        macs, elements = network["macs"] * scale * width**2, network["elements"] * scale * width
        steps = forwards = 1.0
        if isinstance(spec, DistillSpec):
            rate = spec.backward == "rate"
            steps = 1.0 if rate else float(spec.time_steps)
            forwards = steps + (spec.time_steps / 3 if rate else 0.0)  # rate: all steps forward alone, then one as an ANN
        step_macs, step_elements = macs * forwards, elements * forwards
        parameters = network["parameters"] * width**2
        if isinstance(spec, DistillSpec) and spec.teacher:
            teacher = self._plan.stages[spec.teacher]
            assert isinstance(teacher, TeacherSpec)
            other, other_scale, other_width, other_guessed = _scaled_counts(teacher, data)
            step_macs += other["macs"] * other_scale * other_width**2 / 3
            step_elements += other["elements"] * other_scale * other_width / 3
            guessed += other_guessed
        frames = float(spec.time_steps) if isinstance(spec, DistillSpec) else 1.0
        return _Work(
            samples=data.samples[0] * spec.train.epochs,
            macs=step_macs,
            elements=step_elements,
            held_elements=elements * steps,
            transient_elements=4 * elements * frames / network["layers"],
            parameter_bytes=parameters * (PARAMETER_BYTES + COPY_BYTES * _copies(spec.train)),
            batch=spec.train.batch_size,
            precision=spec.train.precision,
            sample_bytes=data.input_bytes,
            store_bytes=data.stored_bytes * data.samples[0],
            from_files=data.from_files,
            guessed=(*data.guessed, *dict.fromkeys(guessed)),
        )

    def _evaluation(self, spec: EvaluateSpec) -> _Work:
        model = self._plan.stages[spec.model]
        assert isinstance(model, NetworkSpec)
        data = _Data.of(self._plan, model)
        network, scale, width, guessed = _scaled_counts(model, data)
        steps = model.time_steps if isinstance(model, DistillSpec) else 1
        elements = network["elements"] * scale * width * steps
        return _Work(
            samples=data.samples[1],
            macs=network["macs"] * scale * width**2 * steps * EVALUATE_SHARE,
            elements=elements * EVALUATE_SHARE,
            held_elements=0.0,
            transient_elements=8 * elements / network["layers"],
            parameter_bytes=PARAMETER_BYTES * network["parameters"] * width**2,
            batch=MAX_BATCH_SIZE,
            precision="float32",
            sample_bytes=data.input_bytes,
            store_bytes=data.stored_bytes * data.samples[1],
            from_files=data.from_files,
            guessed=(*data.guessed, *guessed),
        )


@dataclass(frozen=True)
class _Data:
    samples: tuple[int, int]
    height: int
    width: int
    input_bytes: int
    stored_bytes: int
    from_files: bool
    guessed: tuple[str, ...]

    @classmethod
    def of(cls, plan: Plan, spec: NetworkSpec) -> _Data:
        data = plan.stages[spec.data]
        assert isinstance(data, PreprocessSpec)
        component = components.load("data.datasets", data.dataset)
        meta = component.describe(component.Params.model_validate(data.params))
        height, width = spec.inputs.size(meta.height, meta.width)
        samples = _split_samples(component, data.params)
        frames = meta.num_frames or 1
        return cls(
            samples=samples or STAND_IN_SAMPLES,
            height=height,
            width=width,
            input_bytes=4 * meta.channels * height * width * frames,
            stored_bytes=meta.channels * meta.height * meta.width * frames,
            from_files=meta.kind == "images" and meta.height > FILES_SIDE,
            guessed=() if samples else (f"number of samples of {data.dataset}",),
        )


def _split_samples(component: ModuleType, params: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return how many samples a dataset has to train and to test on: as published, as found in its folder, or None."""
    found = params.get("samples")
    return (found["train"], found["test"]) if found else getattr(component, "SPLIT_SAMPLES", None)


def _scaled_counts(spec: NetworkSpec, data: _Data) -> tuple[dict[str, float], float, float, tuple[str, ...]]:
    """Return the counts of a network, its factors of pixels and of width, and what was guessed."""
    known = spec.arch in _counts()
    counts = _counts()[spec.arch if known else STAND_IN]
    table = components.architecture(spec.arch).entry
    wide = next((_first(table[key]) for key in CHANNEL_KEYS if key in table), 1)
    width = next((_first(spec.network[key]) for key in CHANNEL_KEYS if key in spec.network), 1) / wide
    scale = _pixels(spec, data) / counts["side"] ** 2
    return counts, scale, width, () if known else (f"size of {spec.arch}",)


def _copies(train: TrainConfig) -> int:
    """Return how many copies of the weights a recipe needs beyond those of SGD; other optimizers are taken to be like Adam."""
    return (train.optimizer.name != OptimizerConfig().name) + (train.ema is not None)


def _pixels(spec: NetworkSpec, data: _Data) -> int:
    """Return the number of pixels of the images that a network computes on."""
    if isinstance(spec, TeacherSpec):
        size = spec.own_inputs.size if spec.own_inputs else None
        if size is None and spec.weights and "/" in spec.arch:  # of another library: mostly of ImageNet
            return USUAL_SIDE**2
        if isinstance(size, int):
            return size**2
    return data.height * data.width


def _first(channels: Any) -> float:
    return _first(channels[0]) if isinstance(channels, list | tuple) else float(channels)


def _chosen(work: _Work, *, divisible: bool) -> Cost:
    on_cpu = _on(work, 0)
    if on_cpu.hours <= SMALL_HOURS:
        return on_cpu
    counts = [n for n in GPU_COUNTS if work.batch % n == 0] if divisible else [1]
    costs = [_on(work, n) for n in counts]
    return next((c for c in costs if c.gpu_mb <= GPU_MEMORY_MB and c.hours <= LONGEST_HOURS), costs[-1])


def _on(work: _Work, gpus: int) -> Cost:
    per_rank = math.ceil(work.batch / max(1, gpus))
    held = work.held_elements * HELD_BYTES["float32" if gpus == 0 else work.precision]
    tensors = per_rank * (held + 4 * work.transient_elements + 3 * work.sample_bytes)
    memory_mb = (tensors + work.parameter_bytes) / 1e6
    resident_mb = min(work.store_bytes / 1e6, RESIDENT_MB)
    if gpus == 0:
        machine, ranks, cpus = CORE, float(CPUS), CPUS
        host_mb, gpu_mb = RANK_BASE_MB + 1.25 * memory_mb + resident_mb, 0.0
    else:
        machine, ranks = GPU[work.precision], 1 + (gpus - 1) * GPU_SCALING
        cpus = CPUS_PER_GPU_FILES if work.from_files else CPUS_PER_GPU
        host_mb, gpu_mb = GPU_RANK_BASE_MB + 3 * per_rank * work.sample_bytes / 1e6 + resident_mb, GPU_BASE_MB + 1.2 * memory_mb
    seconds = work.samples * (work.macs / machine.macs + work.elements / machine.elements) / ranks
    if work.from_files:
        seconds = max(seconds, work.samples / (DECODED_PER_CORE * cpus * max(1, gpus)))
    return Cost((START_S + seconds) / 3600, gpus, cpus, math.ceil(gpu_mb), math.ceil(host_mb), work.guessed)


def _preprocess(spec: PreprocessSpec) -> Cost:
    """Return the cost of a preparation, at a hundred recordings or images per second and core."""
    component = components.load("data.datasets", spec.dataset)
    samples = sum(_split_samples(component, spec.params) or STAND_IN_SAMPLES)
    cpus = 4 if samples > 5_000 else CPUS
    return Cost((START_S + samples / (100 * cpus)) / 3600, 0, cpus, 0, 4_000)


def total(costs: Iterable[Cost]) -> str:
    """Return the sum of costs in words, such as `about 41 GPU-hours and 3 CPU-hours, the longest job 6.1 h`."""
    costs = list(costs)
    gpu_hours = sum(cost.gpu_hours for cost in costs)
    cpu_hours = sum(cost.cpu_hours for cost in costs if not cost.gpus)
    parts = [f"{in_hours(gpu_hours)} GPU-hours"] if gpu_hours else []
    parts += [f"{in_hours(cpu_hours)} CPU-hours"] if cpu_hours or not parts else []
    longest = max((cost.hours for cost in costs), default=0.0)
    guessed = dict.fromkeys(what for cost in costs for what in cost.guessed)
    note = f" (not known, so guessed: {', '.join(guessed)})" if guessed else ""
    return f"about {' and '.join(parts)}, the longest job {in_hours(longest)} h{note}"


def in_hours(hours: float) -> str:
    """Format hours with as many digits as an estimate deserves."""
    return f"{hours:.0f}" if hours >= 10 or hours == 0 else f"{hours:.1f}" if hours >= 0.1 else f"{hours:.2f}"
