"""The quality of predictions: accuracy over time, likelihood, calibration, confusion, agreement with the teacher.

Letters: T step, B batch, K class, N sample.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spikedistill.train.distributed import World

CALIBRATION_BINS = 15


class Scores:
    """The scores of every sample of a split. Each rank fills in its own samples; `summary` combines them.

    All sums run over whole arrays in the order of the split, so that no metric depends on the number of ranks.
    """

    def __init__(self, num_samples: int, num_classes: int, device: torch.device) -> None:
        """Reserve space for the scores of `num_samples` samples on `device`."""
        self._num_classes = num_classes
        self._device = device
        self._num_samples = num_samples
        self._columns: dict[str, Tensor] = {}

    def add(self, start: int, logits: Tensor, labels: Tensor, teacher: Tensor | None) -> None:
        """Score a batch.

        Args:
            start: position of its first sample in the split.
            logits: [T, B, K] of a student, [B, K] of a teacher.
            labels: class numbers [B].
            teacher: logits [B, K] of the teacher that a student is compared with; None for no comparison.
        """
        for name, value in _score(logits.detach().double(), labels, teacher).items():
            column = self._columns.setdefault(
                name, torch.zeros(*value.shape[:-1], self._num_samples, device=self._device).double()
            )
            column[..., start : start + len(labels)] = value

    def summary(self, world: World) -> dict[str, Any]:
        """Return the metrics over the samples of all ranks.

        Returns:
            "num_samples"; "accuracy" and "top5" of the mean logits; "nll" in nats; "ece", the expected calibration error (Guo et
            al. 2017, with 15 bins of equal width); "confusion", with a row per true class. For a student also
            "accuracy_at_step", the accuracy of the mean of the first t logits, and "accuracy_of_step", that of step t alone;
            with a teacher "teacher_agreement", the share of samples for which both predict the same class. Shares are in [0, 1].
        """
        column = self._combined(world)
        labels, predictions = column["label"].long(), column["prediction"].long()
        correct = predictions == labels
        confusion = torch.bincount(labels * self._num_classes + predictions, minlength=self._num_classes**2)
        result: dict[str, Any] = {
            "num_samples": self._num_samples,
            "accuracy": float(correct.double().mean()),
            "top5": float(column["top5"].mean()),
            "nll": float(column["nll"].mean()),
            "ece": calibration_error(column["confidence"], correct),
            "confusion": confusion.reshape(self._num_classes, -1).tolist(),
        }
        if "at_step" in column:
            result["accuracy_at_step"] = column["at_step"].mean(1).tolist()
            result["accuracy_of_step"] = column["of_step"].mean(1).tolist()
        if "agrees" in column:
            result["teacher_agreement"] = float(column["agrees"].mean())
        return result

    def predictions(self, world: World) -> dict[str, npt.NDArray[np.unsignedinteger[Any]]]:
        """Return "prediction" and "label", [N] each in the order of the split, in the smallest unsigned type that fits."""
        dtype = np.min_scalar_type(max(1, self._num_classes) - 1)
        column = self._combined(world, ("prediction", "label"))
        return {name: value.cpu().numpy().astype(dtype) for name, value in column.items()}

    def _combined(self, world: World, names: Collection[str] | None = None) -> dict[str, Tensor]:
        """Return columns with the samples of all ranks; None: all columns."""
        chosen = self._columns.keys() if names is None else names
        return {name: world.all_reduce_sum(self._columns[name]) for name in sorted(chosen)}


def _score(logits: Tensor, labels: Tensor, teacher: Tensor | None) -> dict[str, Tensor]:
    mean = logits.mean(0) if logits.dim() == 3 else logits
    probabilities = mean.softmax(-1)
    prediction = mean.argmax(-1)
    top = mean.topk(min(5, mean.shape[-1]), dim=-1).indices
    scores = {
        "label": labels.double(),
        "prediction": prediction.double(),
        "confidence": probabilities.gather(1, prediction[:, None])[:, 0],
        "top5": (top == labels[:, None]).any(1).double(),
        "nll": torch.nn.functional.cross_entropy(mean, labels, reduction="none"),
    }
    if logits.dim() == 3:
        steps = torch.arange(1, len(logits) + 1, device=logits.device, dtype=logits.dtype)
        running = logits.cumsum(0) / steps[:, None, None]
        scores["at_step"] = (running.argmax(-1) == labels).double()
        scores["of_step"] = (logits.argmax(-1) == labels).double()
    if teacher is not None:
        scores["agrees"] = (prediction == teacher.argmax(-1)).double()
    return scores


def calibration_error(confidence: Tensor, correct: Tensor) -> float:
    """Return the mean gap between confidence and accuracy over 15 bins of equal width.

    Args:
        confidence: probability of the predicted class, float64 [N]; a bin includes its upper edge.
        correct: True where the prediction is right, [N].

    Reference: Guo et al. 2017, arXiv 1706.04599, equation 3.
    """
    confidence, correct = confidence.cpu(), correct.cpu()  # where sums have an order, which index_add_ on a GPU lacks
    member = (confidence * CALIBRATION_BINS).ceil().long().clamp(1, CALIBRATION_BINS) - 1
    gap = torch.zeros(CALIBRATION_BINS, dtype=torch.float64)
    gap.index_add_(0, member, confidence - correct.double())
    return float(gap.abs().sum() / len(confidence))
