"""Measures a network on a split. Every metric except the timing is bit-identical on any number of ranks.

Each batch is computed whole by one rank, so rounding does not depend on the number of ranks. Sums over ranks add integers, or
per-sample values of which all but one rank's are zero.
"""

from __future__ import annotations

import math
import statistics
import time
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from spikedistill.data.loading.inputs import InputConfig
from spikedistill.data.loading.loader import Loader
from spikedistill.data.store import SampleStore
from spikedistill.errors import ConfigError, EvaluationError
from spikedistill.evaluate.accuracy import Scores
from spikedistill.evaluate.activity import ActivityMeter
from spikedistill.evaluate.batches import batch_size
from spikedistill.evaluate.corruption import corrupted_batches
from spikedistill.evaluate.operations import OperationMeter, footprint
from spikedistill.evaluate.products import multiplications
from spikedistill.evaluate.settings import CorruptionConfig, EnergyConfig
from spikedistill.models import Teacher
from spikedistill.train.distributed import World

TIMED_RUNS, TIMED_S = 20, 5.0  # whichever limit is reached first


class Measurement(NamedTuple):
    """What was measured on a split.

    Attributes:
        metrics: figures by name, plain JSON.
        predictions: "prediction" and "label", the class numbers of all samples in the order of the split.
    """

    metrics: dict[str, Any]
    predictions: dict[str, npt.NDArray[np.unsignedinteger[Any]]]


@torch.no_grad()
def measure(
    model: nn.Module,
    loader: Loader,
    world: World,
    *,
    num_classes: int,
    energy: EnergyConfig,
    teacher: nn.Module | None = None,
) -> Measurement:
    """Measure a teacher or a student.

    Args:
        model: the network, which returns `ModelOutput`; it is put into evaluation mode.
        loader: this rank's part of the split, in evaluation order.
        world: the ranks; all of them get the result.
        num_classes: K.
        energy: energy of one operation.
        teacher: network to compare predictions with, in evaluation mode; None for no comparison.

    Returns:
        The predictions, and the metrics of `Scores.summary`, `ActivityMeter.summary` and `footprint`; "operations", those of
        `OperationMeter.summary`; "energy_model"; "timing" on this rank's device: "latency_ms" of one sample, the median of
        several runs, and "throughput" of the first batch in samples per second.

    Raises:
        ConfigError: if there are more ranks than batches.
        EvaluationError: if a logit is not finite.
    """
    batches = -(-loader.num_samples // loader.batch_size)
    if batches < world.world_size:
        raise ConfigError(f"{batches} batches of the test split cannot be shared by {world.world_size} ranks; use fewer ranks")
    model.eval()
    scores = Scores(loader.num_samples, num_classes, world.device)
    with ActivityMeter(model) as activity, OperationMeter(model) as operations:
        for step, (inputs, labels) in enumerate(loader.epoch(0)):
            if step == 0:
                first = inputs  # a whole batch, unless there are too few samples
            start = (world.rank + step * world.world_size) * loader.batch_size
            scores.add(start, model(inputs).logits, labels, None if teacher is None else teacher(inputs).logits)
    total = multiplications(model, _first_sample(first)) if isinstance(model, Teacher) else None
    metrics = {
        **_finite(scores.summary(world), "the test split"),
        **activity.summary(world, loader.num_samples),
        **footprint(model),
        "energy_model": energy.model_dump(),
        "operations": operations.summary(world, loader.num_samples, energy, multiplications=total),
        "timing": _timing(model, first, world),
    }
    return Measurement(metrics, scores.predictions(world))


@torch.no_grad()
def measure_robustness(
    model: nn.Module, data: SampleStore, split: str, inputs: InputConfig, world: World, corruptions: CorruptionConfig
) -> list[dict[str, Any]]:
    """Score a network, in evaluation mode, on corrupted samples.

    Args:
        model: the network, which returns `ModelOutput`.
        data: the prepared dataset.
        split: name of the split that is corrupted.
        inputs: how samples become inputs.
        world: the ranks; all of them get the result.
        corruptions: the kinds and strengths; each takes one pass over the split.

    Returns:
        For each of them "kind" and "strength", and "accuracy", "nll" and "ece" of `Scores.summary`.

    Raises:
        EvaluationError: if a logit is not finite.
    """
    found = []
    size = batch_size(len(data.split(split)))
    starts = range(world.rank * size, len(data.split(split)), world.world_size * size)
    for kind, strength in corruptions.chosen():
        scores = Scores(len(data.split(split)), data.num_classes, world.device)
        for start, batch in corrupted_batches(data, split, starts, size, kind=kind, strength=strength):
            loader = Loader(batch, split, batch_size=size, inputs=inputs, device=world.device)
            for samples, labels in loader.epoch(0):
                scores.add(start, model(samples).logits, labels, None)
        summary = _finite(scores.summary(world), f"samples with {kind} {strength:g}")
        found.append({"kind": kind, "strength": strength} | {name: summary[name] for name in ("accuracy", "nll", "ece")})
    return found


def _finite(summary: dict[str, Any], samples: str) -> dict[str, Any]:
    """Return a summary, on all ranks, or raise an EvaluationError on all: the class that NaN logits predict means nothing."""
    if not math.isfinite(summary["nll"]):
        raise EvaluationError(
            f"the logits of {samples} are not finite: weights that were trained to the end of their range, or a layer that fails "
            "in evaluation only; train with a lower lr or train.clip_grad_norm, or look for the layer"
        )
    return summary


def _timing(model: nn.Module, inputs: Tensor, world: World) -> dict[str, Any]:
    samples_axis = inputs.dim() - 4
    return {
        "device": world.device_name,
        "threads": torch.get_num_threads(),
        "latency_ms": 1e3 * _seconds(model, _first_sample(inputs), world.device),
        "throughput": inputs.shape[samples_axis] / _seconds(model, inputs, world.device),
        "throughput_batch": inputs.shape[samples_axis],
    }


def _first_sample(inputs: Tensor) -> Tensor:
    """Return a batch of one, [1, C, H, W] or [T, 1, C, H, W]."""
    return inputs.narrow(inputs.dim() - 4, 0, 1)


def _seconds(model: nn.Module, inputs: Tensor, device: torch.device) -> float:
    """Return the median time of a forward pass, after one to warm up."""
    model(inputs)
    times: list[float] = []
    while len(times) < TIMED_RUNS and sum(times) < TIMED_S:
        started = _now(device)
        model(inputs)
        times.append(_now(device) - started)
    return statistics.median(times)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
