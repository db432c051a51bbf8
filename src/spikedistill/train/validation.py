"""Accuracy and loss on the validation split after an epoch, and the best network so far."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikedistill.data.loading.loader import Loader
from spikedistill.train.distributed import World

ACCURACY = "validation/accuracy(%)"
LOSS = "validation/loss"


@torch.no_grad()
def validate(model: nn.Module, loader: Loader, world: World) -> dict[str, float]:
    """Measure a network on a split, in evaluation mode and full precision; the accuracy is the same for any number of ranks.

    Args:
        model: returns `ModelOutput`; its mode is restored.
        loader: evaluation batches of the split.
        world: the ranks, which share the batches.

    Returns:
        Tags of scalars: accuracy in percent, mean cross-entropy of the predicted logits.
    """
    was_training = model.training
    model.eval()
    sums = torch.zeros(2, dtype=torch.float64, device=world.device)
    for inputs, labels in loader.epoch(0):
        logits = model(inputs).prediction.double()
        loss = functional.cross_entropy(logits, labels, reduction="sum")
        sums += torch.stack([(logits.argmax(1) == labels).sum().double(), loss])
    model.train(was_training)
    correct, loss_sum = world.all_reduce_sum(sums).tolist()
    count = loader.num_samples
    return {ACCURACY: 100 * correct / count, LOSS: loss_sum / count}


class Best:
    """The best network of a run by validation accuracy, the earliest of equals: its weights on the CPU."""

    def __init__(self) -> None:
        self.epoch = -1
        self.accuracy = float("-inf")
        self._weights: dict[str, Tensor] = {}

    def offer(self, epoch: int, accuracy: float, model: nn.Module) -> None:
        """Keep a network if it is better than all before."""
        if accuracy > self.accuracy:
            self.epoch, self.accuracy = epoch, accuracy
            self._weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}

    def restore(self, model: nn.Module) -> None:
        """Give a network the weights of the best."""
        model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"epoch": self.epoch, "accuracy": self.accuracy, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.epoch, self.accuracy, self._weights = int(state["epoch"]), float(state["accuracy"]), state["weights"]
