"""Measures a network on a split, over any number of ranks: every figure but the times is the same, to the last bit.

Whole batches are dealt out to the ranks, so that a sample is computed in the same company whatever their number; what is summed
over ranks are whole numbers, or per-sample values that one rank filled in.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn

from spikedistill.data.loading.loader import Loader
from spikedistill.errors import ConfigError
from spikedistill.evaluate.accuracy import Scores
from spikedistill.evaluate.activity import ActivityMeter
from spikedistill.evaluate.operations import OperationMeter, footprint
from spikedistill.evaluate.settings import LARGEST_BATCH, EnergyConfig
from spikedistill.train.distributed import World

LEAST_BATCHES = 16
TIMED_RUNS, TIMED_S = 20, 5.0  # whichever ends first


def batch_size(num_samples: int) -> int:
    """Samples per batch; a function of the split alone, small enough for a few ranks to share a small split."""
    return max(1, min(LARGEST_BATCH, num_samples // LEAST_BATCHES))


@torch.no_grad()
def measure(
    model: nn.Module,
    loader: Loader,
    world: World,
    *,
    num_classes: int,
    energy: EnergyConfig,
    teacher: nn.Module | None = None,
) -> dict[str, Any]:
    """Measure a teacher or a student.

    Args:
        model: returns `ModelOutput`; put into evaluation mode.
        loader: the split, in evaluation order, of this rank.
        world: the ranks; every one gets the result.
        num_classes: K.
        energy: of one operation.
        teacher: whose predictions to compare with, in evaluation mode.

    Returns:
        The figures of `Scores.summary`, `ActivityMeter.summary`, `footprint` and, as "operations", `OperationMeter.summary`;
        "timing" of this rank's device: "latency_ms" of one sample, the median of several runs, and "throughput" in samples per
        second.

    Raises:
        ConfigError: if there are more ranks than batches.
    """
    batches = -(-loader.num_samples // loader.batch_size)
    if batches < world.world_size:
        raise ConfigError(f"{batches} batches of the test split cannot be shared by {world.world_size} ranks; use fewer ranks")
    model.eval()
    scores = Scores(loader.num_samples, num_classes, world.device)
    with ActivityMeter(model) as activity, OperationMeter(model) as operations:
        for step, (inputs, labels) in enumerate(loader.epoch(0)):
            start = (world.rank + step * world.world_size) * loader.batch_size
            scores.add(start, model(inputs).logits, labels, None if teacher is None else teacher(inputs).logits)
    return {
        **scores.summary(world),
        **activity.summary(world, loader.num_samples),
        **footprint(model),
        "energy_model": energy.model_dump(),
        "operations": operations.summary(world, loader.num_samples, energy),
        "timing": _timing(model, inputs, world),
    }


def _timing(model: nn.Module, inputs: Tensor, world: World) -> dict[str, Any]:
    samples_axis = inputs.dim() - 4
    return {
        "device": world.device_name,
        "threads": torch.get_num_threads(),
        "latency_ms": 1e3 * _seconds(model, inputs.narrow(samples_axis, 0, 1), world.device),
        "throughput": inputs.shape[samples_axis] / _seconds(model, inputs, world.device),
        "throughput_batch": inputs.shape[samples_axis],
    }


def _seconds(model: nn.Module, inputs: Tensor, device: torch.device) -> float:
    """Median time of a forward pass, after one to warm up."""
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
