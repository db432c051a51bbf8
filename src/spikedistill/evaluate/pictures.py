"""A few test samples with the network's saliency maps: a teacher's class activation map, a student's mean spikes.

Letters: T step, B batch, D channel, K class.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spikedistill.data.loading.inputs import InputConfig
from spikedistill.data.loading.loader import Loader
from spikedistill.data.store import SampleStore
from spikedistill.evaluate.settings import EXAMPLES
from spikedistill.models import Student, Teacher

NUM_EXAMPLES = 6


def choose_examples(store: SampleStore) -> npt.NDArray[np.int64]:
    """Return the rows of the first test sample of each of the first `NUM_EXAMPLES` classes."""
    rows = store.split("test")
    labels = store.labels[rows]
    classes = [k for k in range(store.num_classes) if (labels == k).any()][:NUM_EXAMPLES]
    return np.array([rows[np.argmax(labels == k)] for k in classes], dtype=np.int64)


def write_examples(model: Student | Teacher, store: SampleStore, config: InputConfig, device: torch.device, folder: Path) -> None:
    """Write the examples of a network to `EXAMPLES` in `folder`, compressed.

    Its arrays: "samples" as stored, [B, C, H, W] or [B, T, 2, H, W]; "labels" and "predictions" [B]; "maps" [B, h, w], see
    `saliency`.
    """
    rows = choose_examples(store)
    chosen = SampleStore(
        store.kind, store.samples, store.labels, {"test": rows}, store.class_names, mean=store.mean, std=store.std
    )
    loader = Loader(chosen, "test", batch_size=len(rows), inputs=config, device=device)
    inputs, labels = next(loader.epoch(0))
    predictions, maps = saliency(model, inputs, labels)
    arrays: dict[str, Any] = {
        "samples": store.take(rows),
        "labels": store.labels[rows],
        "predictions": predictions.cpu().numpy(),
        "maps": maps.cpu().numpy(),
    }
    np.savez_compressed(folder / EXAMPLES, **arrays)


@torch.no_grad()
def saliency(model: Student | Teacher, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the predicted classes [B] of a batch and its saliency maps [B, h, w].

    The map of a teacher is the gradient-weighted class activation map of the true class after the last stage (Selvaraju et al.
    2017, arXiv 1610.02391), which with global pooling and one linear layer equals the class activation map of Zhou et al. 2016;
    that of a teacher without such maps is the gradient of the true class by the input (Simonyan et al. 2013, arXiv 1312.6034).
    The map of a student is the mean of the last stage's spikes over time and channels.
    """
    outputs = model(inputs)
    predictions = outputs.prediction.argmax(-1)
    if isinstance(model, Student):
        return predictions, outputs.features.mean((0, 2)).float()
    if outputs.features.dim() != 4:  # tokens of a transformer
        return predictions, _input_gradient(model, inputs, labels)
    with torch.enable_grad():
        features = outputs.features.detach().clone().requires_grad_()
        chosen = model.classify(features).gather(1, labels[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, features)
    weights = gradient.mean((2, 3), keepdim=True)
    return predictions, (weights * outputs.features).sum(1).relu().float()


def _input_gradient(model: Teacher, inputs: Tensor, labels: Tensor) -> Tensor:
    """Return the absolute gradient of the true class's logit by the pixels, summed over channels and frames: [B, H, W]."""
    with torch.enable_grad():
        pixels = inputs.detach().clone().requires_grad_()
        chosen = model(pixels).logits.gather(1, labels[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, pixels)
    gradient = gradient.abs().sum(-3)
    return (gradient.sum(0) if gradient.dim() == 4 else gradient).float()
