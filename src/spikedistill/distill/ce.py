"""Cross-entropy of the logits averaged over time: the baseline without a teacher."""

from __future__ import annotations

from spikedistill.components import ComponentParams
from spikedistill.distill.method_inputs import MethodInputs, Need
from spikedistill.distill.precision import full_precision
from spikedistill.lazy import torch

SMOOTHS_LABELS = True


class Params(ComponentParams):
    """The baseline has no parameters."""


@full_precision
def mean_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Return CE(mean over t of z[t], y), averaged over the batch.

    Args:
        logits: z [T, B, C].
        labels: y [B].
        label_smoothing: share of the target that is spread over all classes.

    Returns:
        Scalar in nats.
    """
    return torch.nn.functional.cross_entropy(logits.mean(0), labels, label_smoothing=label_smoothing)


def needs(params: Params) -> frozenset[Need]:
    """Return what the loss takes besides the student's logits and the labels."""
    return frozenset()


def loss(inputs: MethodInputs, params: Params) -> dict[str, torch.Tensor]:
    """Return the weighted terms of the loss."""
    return {"ce": mean_cross_entropy(inputs.logits, inputs.labels, inputs.label_smoothing)}
