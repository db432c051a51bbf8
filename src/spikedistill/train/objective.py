"""What training minimises: the batch that a loss is computed from, and the interface of the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor

from spikedistill.models import ModelOutput


@dataclass(frozen=True)
class Batch:
    """The samples of one step on one rank.

    Attributes:
        inputs: images [B, C, H, W] or frames [T, B, C, H, W], as the model gets them.
        labels: class numbers [B].
        epoch: number of the epoch, from 0.
        step: number of the step in the epoch, from 0.
        first: position of the first sample in the global batch of this step.
        global_size: number of samples in the global batch of this step, over all ranks.
        partners: class numbers [B] of what mixup or CutMix has mixed into each sample; None without.
        share: share of the samples themselves in the mixture; as a tensor [] where a CUDA graph takes it.
        keys: keys of the draws that encode the samples as spikes, int64 [B]; None if nothing is drawn.
    """

    inputs: Tensor
    labels: Tensor
    epoch: int
    step: int
    first: int
    global_size: int
    partners: Tensor | None = None
    share: float | Tensor = 1.0
    keys: Tensor | None = None

    def split(self, parts: int) -> list[Batch]:
        """Return equal parts of the batch, in order; `parts` divides the number of samples."""
        each, dim = len(self.labels) // parts, self.inputs.dim() - 4
        return [
            replace(
                self,
                inputs=self.inputs.narrow(dim, start, each),
                labels=self.labels[start : start + each],
                first=self.first + start,
                partners=None if self.partners is None else self.partners[start : start + each],
                keys=None if self.keys is None else self.keys[start : start + each],
            )
            for start in range(0, parts * each, each)
        ]

    def over_labels(self, loss: Callable[[Tensor], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the terms of a loss; of mixed samples, share * loss(labels) + (1 - share) * loss(partners), term by term.

        Args:
            loss: returns the terms for some labels [B].
        """
        terms = loss(self.labels)
        if self.partners is None or (not isinstance(self.share, Tensor) and self.share == 1):
            return terms
        others = loss(self.partners)
        return {name: self.share * term + (1 - self.share) * others[name] for name, term in terms.items()}

    def accuracy(self, outputs: ModelOutput) -> Tensor:
        """Return the share of samples whose predicted class is right; of mixed samples, weighted as in `over_labels`."""
        predicted = outputs.prediction.detach().argmax(-1)
        return self.over_labels(lambda labels: {"accuracy": (predicted == labels).double().mean()})["accuracy"]


class Objective(Protocol):
    """The loss that training minimises."""

    def prepare(self, batch: Batch) -> None:
        """Do what a step needs once and a CUDA graph cannot hold, such as seeding its random draws; called before each step."""

    def __call__(self, outputs: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of the loss, weighted, by name; their sum is minimised.

        Args:
            outputs: output of the model, in float32 or float64.
            batch: the samples that it was computed from; what depends on labels goes through `batch.over_labels`.
        """
