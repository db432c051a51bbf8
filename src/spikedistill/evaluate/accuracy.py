"""Accuracy of a network on a split, exact over any number of ranks.

Letters: T step, B batch, K class.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spikedistill.data.loader import Loader
from spikedistill.errors import ConfigError
from spikedistill.evaluate.activity import ActivityMeter
from spikedistill.train.distributed import World


@torch.no_grad()
def evaluate(model: nn.Module, loader: Loader, world: World, *, class_names: tuple[str, ...]) -> dict[str, Any]:
    """Measure a teacher or a student.

    Args:
        model: returns `Outputs` with logits [B, K] or [T, B, K]; put into evaluation mode.
        loader: the split, in evaluation order, of this rank.
        world: the ranks; every one gets the result.
        class_names: K names.

    Returns:
        The content of evaluation.json but for the role, shares in [0, 1]:
        `accuracy` is that of the mean logits, `accuracy_at_step` that of
        the mean over the first t steps, `accuracy_of_step` that of step t alone.

    Raises:
        ConfigError: if there are more ranks than samples.
    """
    if loader.num_samples < world.world_size:
        raise ConfigError(f"{loader.num_samples} samples cannot be shared by {world.world_size} ranks; use fewer")
    model.eval()
    counters: dict[str, Tensor] = {}
    with ActivityMeter(model) as activity:
        for inputs, labels in loader.epoch(0):
            logits = model(inputs).logits.double()
            for name, value in _count(logits, labels, len(class_names)).items():
                counters[name] = counters.get(name, 0) + value
    totals = {name: world.sum(value) for name, value in sorted(counters.items())}
    count = int(totals["count"])
    result: dict[str, Any] = {
        "schema": 1,
        "num_samples": count,
        "accuracy": float(totals["top1"]) / count,
        "top5": float(totals["top5"]) / count,
        "nll": float(totals["nll"]) / count,
        "confusion": totals["confusion"].long().tolist(),
        "class_names": list(class_names),
    }
    if "at_step" in totals:
        result["accuracy_at_step"] = (totals["at_step"] / count).tolist()
        result["accuracy_of_step"] = (totals["of_step"] / count).tolist()
        result["firing_rate"] = activity.summary(world)
    return result


def _count(logits: Tensor, labels: Tensor, num_classes: int) -> dict[str, Tensor]:
    """Sums over the batch, float64, of everything that is counted."""
    mean = logits.mean(0) if logits.dim() == 3 else logits
    top = mean.topk(min(5, num_classes), dim=-1).indices
    hits = top == labels[:, None]
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.float64, device=logits.device)
    ones = torch.ones(len(labels), dtype=torch.float64, device=logits.device)
    confusion.index_put_((labels, mean.argmax(-1)), ones, accumulate=True)
    counts = {
        "count": ones.sum(),
        "top1": (mean.argmax(-1) == labels).double().sum(),
        "top5": hits.double().sum(),
        "nll": torch.nn.functional.cross_entropy(mean, labels, reduction="sum"),
        "confusion": confusion,
    }
    if logits.dim() == 3:
        steps = torch.arange(1, len(logits) + 1, device=logits.device, dtype=logits.dtype)
        running = logits.cumsum(0) / steps[:, None, None]
        counts["at_step"] = (running.argmax(-1) == labels).double().sum(1)
        counts["of_step"] = (logits.argmax(-1) == labels).double().sum(1)
    return counts
