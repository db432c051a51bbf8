"""Cross-entropy at every time step (temporal efficient training, arXiv 2202.11946, without its regulariser); no teacher."""

from __future__ import annotations

from spikedistill.components import ComponentParams
from spikedistill.distill.method_inputs import MethodInputs, Need
from spikedistill.distill.precision import full_precision
from spikedistill.lazy import torch

SMOOTHS_LABELS = True


class Params(ComponentParams):
    """The baseline has no parameters."""


@full_precision
def per_step_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Return (1 / T) sum over t of CE(z[t], y), averaged over the batch (Deng et al. 2022, TET, without the MSE term).

    Args:
        logits: z [T, B, C].
        labels: y [B].
        label_smoothing: share of the target that is spread over all classes.

    Returns:
        Scalar in nats.
    """
    targets = labels.repeat(len(logits))
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets, label_smoothing=label_smoothing)


def needs(params: Params) -> frozenset[Need]:
    """Return what the loss takes besides the student's logits and the labels."""
    return frozenset({"steps"})


def loss(inputs: MethodInputs, params: Params) -> dict[str, torch.Tensor]:
    """Return the weighted terms of the loss."""
    return {"ce": per_step_cross_entropy(inputs.logits, inputs.labels, inputs.label_smoothing)}
