"""Estimate the cost of stages before anything runs: time, GPU memory and host memory. Imports no torch.

What a stage has to do is counted in `costs.work`. On a CPU, a sample takes (macs / rate + elements / bandwidth) seconds, with two
constants that were fitted by benchmarks/costs.py. On GPUs a step takes the time of the roofline in `costs.roofline`, with the
figures of their model in `costs.gpus`. A factor of two either way is to be expected.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikedistill import components
from spikedistill.plan.build import Plan
from spikedistill.plan.costs.gpus import Gpu, choose_gpu
from spikedistill.plan.costs.roofline import fused_share, step_seconds
from spikedistill.plan.costs.work import STAND_IN_SAMPLES, Work, evaluation_work, split_samples, training_work
from spikedistill.plan.stages import STAGES, NetworkSpec, PreprocessSpec
from spikedistill.train.settings import EngineConfig

# Of a core, in multiply-accumulates and elements per second: measured by benchmarks/costs.py --measure on two cores of a server.
CORE_MACS, CORE_ELEMENTS = 2.7e10, 1.2e8
HELD_BYTES = {"float32": 3.9, "bf16": 2.9}  # held for the backward pass per element of a layer's output; measured in float32
FUSED_HELD = 0.5  # share of that, where batch normalisation and neurons are fused; counted by tests/gpu
GPU_BASE_MB = 1_500  # context, workspaces, allocator
RANK_BASE_MB = 1_600  # interpreter and libraries of a rank
GPU_RANK_BASE_MB = 6_000
START_S = 20.0  # of a stage: interpreter, libraries, reading, checksums
DECODED_PER_CORE = 450.0  # JPEG images per second, decoded, cropped and resized; measured
RESIDENT_MB = 256  # a split up to this size is kept in the memory of the CPU
RESIDENT_SHARE = 0.25  # a split up to this share of a GPU's memory is kept there

SMALL_HOURS = 0.5  # stages shorter than this on CPUs request no GPU
LONGEST_HOURS = 24.0  # a job that would take longer than this requests more GPUs, as long as these save time
WORTHWHILE = 0.75  # more GPUs are worth it if they reduce the time to less than this share
GPU_COUNTS = (1, 2, 4, 8)
CPUS = 2
SMALL_STEP_S = 0.5  # steps that take one core less than this gain little from a second one: two stages side by side gain more
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
        gpu: model of the GPUs that the estimate is for, and where its figures come from; empty without GPUs.
    """

    hours: float
    gpus: int
    cpus: int
    gpu_mb: int
    host_mb: int
    guessed: tuple[str, ...] = ()
    gpu: str = ""

    @property
    def gpu_hours(self) -> float:
        """Hours of one GPU."""
        return self.hours * self.gpus

    @property
    def cpu_hours(self) -> float:
        """Hours of one CPU."""
        return self.hours * self.cpus * max(1, self.gpus)


class Estimator:
    """Estimates the costs of the stages of one plan."""

    def __init__(self, plan: Plan) -> None:
        """Choose the model of GPU; every cost is calculated when it is first asked for.

        Raises:
            ConfigError: if `engine.gpu` is not known, or measured figures cannot be used.
        """
        self._plan = plan
        self._known: dict[tuple[str, int | None, str | None], Cost] = {}
        self._gpus: dict[str | None, Gpu] = {None: choose_gpu(None, plan.config.engine.gpu)}

    def __call__(self, ref: str, gpus: int | None = None, *, model: str | None = None) -> Cost:
        """Return the cost of the stage that makes `ref`.

        Args:
            ref: reference of its artifact.
            gpus: number of GPUs; None: the fewest on which it fits and ends within a day, or none if CPUs will do.
            model: model of the GPUs that its job requests, as Slurm calls it; None: any.
        """
        key = ref, gpus, model
        if key not in self._known:
            self._known[key] = self._estimate(self._plan.stages[ref], gpus, model)
        return self._known[key]

    def _estimate(self, spec: Any, gpus: int | None, model: str | None) -> Cost:
        """Apply the cost model that the table of stages names for a spec."""
        kind = STAGES[spec.stage].cost
        if kind == "preprocessing":
            return _preprocess(spec)
        if kind == "training" and spec.train is None:
            return self._import(spec)
        work = evaluation_work(self._plan, spec) if kind == "evaluation" else training_work(self._plan, spec)
        on_cpu = _on_cpu(work)
        if gpus == 0 or (gpus is None and on_cpu.hours <= SMALL_HOURS):
            return on_cpu
        gpu, engine = self._gpu(model), self._plan.config.engine
        if gpus is not None:
            return _on_gpus(work, gpus, gpu, engine)
        counts = [n for n in GPU_COUNTS if work.batch % n == 0] if kind == "training" else [1]
        return _chosen([_on_gpus(work, n, gpu, engine) for n in counts], gpu)

    def _gpu(self, model: str | None) -> Gpu:
        if model not in self._gpus:
            self._gpus[model] = choose_gpu(model, self._plan.config.engine.gpu)
        return self._gpus[model]

    def _import(self, spec: NetworkSpec) -> Cost:
        """Return the cost of an import: the file is in memory three times, as bytes, as tensors and as a network."""
        try:
            size = Path(self._plan.weights[spec.ref]).expanduser().stat().st_size
        except OSError:
            size = 0
        return Cost(START_S / 3600, 0, CPUS, 0, RANK_BASE_MB + math.ceil(3 * size / 1e6))


def _chosen(costs: list[Cost], gpu: Gpu) -> Cost:
    """Return the fewest GPUs on which a stage fits and ends within a day; if none do, as many as are still worth it."""
    fitting = [cost for cost in costs if cost.gpu_mb <= gpu.memory_mb] or costs[-1:]
    chosen = fitting[0]
    for cost in fitting[1:]:
        if chosen.hours <= LONGEST_HOURS:
            break
        if cost.hours < WORTHWHILE * chosen.hours:
            chosen = cost
    return chosen


def _on_cpu(work: Work) -> Cost:
    memory_mb = _memory_mb(work, work.batch, HELD_BYTES["float32"])
    host_mb = RANK_BASE_MB + 1.25 * memory_mb + _host_resident_mb(work) + work.window_bytes / 1e6
    of_sample = work.macs / CORE_MACS + work.elements / CORE_ELEMENTS
    cpus = 1 if work.batch * of_sample < SMALL_STEP_S else CPUS
    return _cost(work, work.samples * of_sample / cpus, 0, cpus, 0, host_mb)


def _on_gpus(work: Work, gpus: int, gpu: Gpu, engine: EngineConfig) -> Cost:
    per_rank = math.ceil(work.batch / gpus)
    cpus = CPUS_PER_GPU_FILES if work.from_files else CPUS_PER_GPU
    host_mb = GPU_RANK_BASE_MB + 3 * per_rank * work.sample_bytes / 1e6 + _host_resident_mb(work) + work.window_bytes / 1e6 / gpus
    resident_mb = min(work.resident_bytes / 1e6, RESIDENT_SHARE * gpu.memory_mb)
    held_bytes = HELD_BYTES[work.precision] * (FUSED_HELD if fused_share(work, engine) else 1)
    gpu_mb = GPU_BASE_MB + 1.2 * _memory_mb(work, per_rank, held_bytes) + resident_mb
    seconds = work.samples / work.batch * step_seconds(work, gpus, gpu, engine)
    return _cost(work, seconds, gpus, cpus, gpu_mb, host_mb, gpu.described)


def _cost(work: Work, seconds: float, gpus: int, cpus: int, gpu_mb: float, host_mb: float, gpu: str = "") -> Cost:
    """Return a cost whose time is at least that of decoding the images."""
    if work.from_files:
        seconds = max(seconds, work.samples / (DECODED_PER_CORE * cpus * max(1, gpus)))
    return Cost((START_S + seconds) / 3600, gpus, cpus, math.ceil(gpu_mb), math.ceil(host_mb), work.guessed, gpu)


def _memory_mb(work: Work, samples: int, held_bytes: float) -> float:
    """Return the memory of a network and its tensors in a step, given its samples and the bytes held per element."""
    tensors = work.held_elements * held_bytes + 4 * work.transient_elements + 3 * work.sample_bytes
    return (samples * tensors + work.parameter_bytes) / 1e6


def _host_resident_mb(work: Work) -> float:
    return min(work.store_bytes / 1e6, RESIDENT_MB)


def _preprocess(spec: PreprocessSpec) -> Cost:
    """Return the cost of a preparation, at a hundred recordings or images per second and core."""
    component = components.load("data.datasets", spec.dataset)
    samples = sum(split_samples(component, spec.params) or STAND_IN_SAMPLES)
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
    models = ", ".join(dict.fromkeys(cost.gpu for cost in costs if cost.gpu))
    on = f"; GPU: {models}" if models else ""
    return f"about {' and '.join(parts)}, the longest job {in_hours(longest)} h{note}{on}"


def in_hours(hours: float) -> str:
    """Format hours with as many digits as an estimate deserves."""
    return f"{hours:.0f}" if hours >= 10 or hours == 0 else f"{hours:.1f}" if hours >= 0.1 else f"{hours:.2f}"
