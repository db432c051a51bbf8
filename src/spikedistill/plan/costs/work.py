"""The work of a stage: how many samples, and what one of them takes. Imports no torch.

The counts of a forward pass of each architecture, multiply-accumulates, elements of layer outputs and layers, are in
`plan/costs.json`; benchmarks/costs.py makes them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from spikedistill import components
from spikedistill.evaluate.batches import batch_size
from spikedistill.plan.build import CHANNEL_KEYS, Plan
from spikedistill.plan.stages import DistillSpec, EvaluateSpec, NetworkSpec, PreprocessSpec, TeacherSpec
from spikedistill.train.settings import OptimizerConfig, TrainConfig

EVALUATE_SHARE = 0.5  # cost of a measuring pass, as a share of a training step
PARAMETER_BYTES = 16  # weight, gradient, momentum, and a bucket of gradients in flight
COPY_BYTES = 4  # of each further copy of the weights: second moments of an optimizer, averaged weights
GRADIENT_BYTES = 4
COUNT_BYTES = 4  # of an event count on the device, if one exceeds 255: torch indexes no uint16, so int32
FUSED_NEURON = "lif"
RATE_LAUNCHES = 1.5  # operations of a rate-based step, relative to one through time; counted by tests/gpu

STAND_IN = "resnet18"  # counts for an architecture that is not in costs.json
STAND_IN_SAMPLES = (50_000, 10_000)
USUAL_SIDE = 224  # of images for another library's weights


@dataclass(frozen=True)
class Work:
    """The work of a stage.

    Attributes:
        samples: samples that are processed, over all epochs.
        macs: multiply-accumulates per sample, forward; training takes three times as many.
        elements: elements of layer outputs per sample, forward, likewise.
        layers: layers that a step computes, forward; training computes each three times.
        fusible: share of the elements that `engine.fuse` computes with their neighbours on a GPU.
        held_elements: elements per sample that are kept for the backward pass.
        transient_elements: elements per sample that are in memory for a moment.
        parameter_bytes: weights, and what training keeps for each of them.
        gradient_bytes: what the ranks of a job sum at each step.
        batch: samples of a step, over all ranks; of an evaluation, on each of them.
        precision: `train.precision`.
        sample_bytes: an input in float32.
        store_bytes: the split as it is stored, if a count takes one byte.
        resident_bytes: the split as a GPU keeps it, at most.
        window_bytes: samples that are held to be shuffled in chunks, over all ranks.
        from_files: whether images are decoded from files in each epoch.
        guessed: what was not known.
    """

    samples: float
    macs: float
    elements: float
    layers: float
    fusible: float
    held_elements: float
    transient_elements: float
    parameter_bytes: float
    gradient_bytes: float
    batch: int
    precision: str
    sample_bytes: int
    store_bytes: int
    resident_bytes: int
    window_bytes: int
    from_files: bool
    guessed: tuple[str, ...]


@functools.cache
def network_counts() -> dict[str, dict[str, float]]:
    """Return the counts of every architecture, per sample and time step, forward, at the side given with them."""
    return json.loads(Path(__file__).parents[1].joinpath("costs.json").read_text(encoding="utf-8"))


def training_work(plan: Plan, spec: NetworkSpec) -> Work:
    """Return the work of the training of a teacher or a student."""
    assert spec.train is not None
    data = _Data.of(plan, spec)
    network = _Network.of(spec, data)
    steps, forwards, launches = _passes(spec)
    macs, elements, layers = network.macs * forwards, network.elements * forwards, network.layers * launches
    is_fusible = isinstance(spec, DistillSpec) and spec.backward == "bptt" and spec.neuron.name == FUSED_NEURON
    fused_elements = elements if is_fusible else 0.0
    guessed = network.guessed
    if isinstance(spec, DistillSpec) and spec.teacher:
        teacher = plan.stages[spec.teacher]
        assert isinstance(teacher, TeacherSpec)
        other = _Network.of(teacher, data)
        macs, elements, layers = macs + other.macs / 3, elements + other.elements / 3, layers + other.layers / 3
        guessed += other.guessed
    frames = float(spec.time_steps) if isinstance(spec, DistillSpec) else 1.0
    return Work(
        samples=data.samples[0] * spec.train.epochs,
        macs=macs,
        elements=elements,
        layers=layers,
        fusible=fused_elements / elements,
        held_elements=network.elements * steps,
        transient_elements=4 * network.elements * frames / network.layers,
        parameter_bytes=network.parameters * (PARAMETER_BYTES + COPY_BYTES * _copies(spec.train)),
        gradient_bytes=network.parameters * GRADIENT_BYTES,
        batch=spec.train.batch_size,
        precision=spec.train.precision,
        window_bytes=_window_bytes(spec.train, data),
        guessed=(*data.guessed, *dict.fromkeys(guessed)),
        **data.bytes_of(data.samples[0]),
    )


def _passes(spec: NetworkSpec) -> tuple[float, float, float]:
    """Return the time steps kept for the backward pass, the forward passes, and a factor of the number of launches."""
    if not isinstance(spec, DistillSpec):
        return 1.0, 1.0, 1.0
    if spec.backward == "rate":  # all steps forward alone, then one as an ANN
        return 1.0, 1.0 + spec.time_steps / 3, RATE_LAUNCHES
    return float(spec.time_steps), float(spec.time_steps), 1.0  # layers other than neurons compute all steps at once


def evaluation_work(plan: Plan, spec: EvaluateSpec) -> Work:
    """Return the work of the measurement of a network on the test split."""
    model = plan.stages[spec.model]
    assert isinstance(model, NetworkSpec)
    data = _Data.of(plan, model)
    network = _Network.of(model, data)
    steps = model.time_steps if isinstance(model, DistillSpec) else 1
    passes = 1 + len(list(spec.settings.corruptions.chosen()))
    return Work(
        samples=data.samples[1] * passes,
        macs=network.macs * steps * EVALUATE_SHARE,
        elements=network.elements * steps * EVALUATE_SHARE,
        layers=network.layers * EVALUATE_SHARE,
        fusible=0.0,
        held_elements=0.0,
        transient_elements=8 * network.elements * steps / network.layers,
        parameter_bytes=PARAMETER_BYTES * network.parameters,
        gradient_bytes=0.0,
        batch=batch_size(data.samples[1]),
        precision="float32",
        window_bytes=0,
        guessed=(*data.guessed, *network.guessed),
        **data.bytes_of(data.samples[1]),
    )


@dataclass(frozen=True)
class _Network:
    """The counts of one network on the inputs of a dataset, per sample and time step, forward."""

    macs: float
    elements: float
    layers: float
    parameters: float
    guessed: tuple[str, ...]

    @classmethod
    def of(cls, spec: NetworkSpec, data: _Data) -> _Network:
        known = spec.arch in network_counts()
        counts = network_counts()[spec.arch if known else STAND_IN]
        scale, width = _pixels(spec, data) / counts["side"] ** 2, _width(spec)
        return cls(
            macs=counts["macs"] * scale * width**2,
            elements=counts["elements"] * scale * width,
            layers=counts["layers"],
            parameters=counts["parameters"] * width**2,
            guessed=() if known else (f"size of {spec.arch}",),
        )


@dataclass(frozen=True)
class _Data:
    samples: tuple[int, int]
    height: int
    width: int
    input_bytes: int
    stored_bytes: int
    count_bytes: int
    from_files: bool
    guessed: tuple[str, ...]

    @classmethod
    def of(cls, plan: Plan, spec: NetworkSpec) -> _Data:
        data = plan.stages[spec.data]
        assert isinstance(data, PreprocessSpec)
        component = components.load("data.datasets", data.dataset)
        meta = component.describe(component.Params.model_validate(data.params))
        height, width = spec.inputs.size(meta.height, meta.width)
        samples = split_samples(component, data.params)
        if samples and spec.train_samples:
            samples = min(samples[0], spec.train_samples), samples[1]
        frames = meta.num_frames or 1
        return cls(
            samples=samples or STAND_IN_SAMPLES,
            height=height,
            width=width,
            input_bytes=4 * meta.channels * height * width * frames,
            stored_bytes=meta.channels * meta.height * meta.width * frames,
            count_bytes=1 if meta.kind == "images" else COUNT_BYTES,
            from_files=meta.in_files,
            guessed=() if samples else (f"number of samples of {data.dataset}",),
        )

    def bytes_of(self, samples: int) -> dict[str, Any]:
        """Return the fields of `Work` about the size of the data, for a split of this many samples."""
        stored = self.stored_bytes * samples
        resident = 0 if self.from_files else stored * self.count_bytes
        return {
            "sample_bytes": self.input_bytes,
            "store_bytes": stored,
            "resident_bytes": resident,
            "from_files": self.from_files,
        }


def _window_bytes(train: TrainConfig, data: _Data) -> int:
    """Return the size of the samples that a chunked shuffle holds: half of its window."""
    window = train.chunked_shuffle.window if train.chunked_shuffle else 0
    return data.stored_bytes * min(window, data.samples[0]) // 2


def split_samples(component: ModuleType, params: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return how many samples a dataset has to train and to test on: as published, as found in its folder, or None."""
    found = params.get("samples")
    return (found["train"], found["test"]) if found else getattr(component, "SPLIT_SAMPLES", None)


def _width(spec: NetworkSpec) -> float:
    """Return the width of a network by that of the architecture's entry."""
    table = components.architecture(spec.arch).entry
    wide = next((_first(table[key]) for key in CHANNEL_KEYS if key in table), 1)
    return next((_first(spec.network[key]) for key in CHANNEL_KEYS if key in spec.network), 1) / wide


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
