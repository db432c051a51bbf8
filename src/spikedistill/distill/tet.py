"""Cross-entropy at every time step (temporal efficient training without its regulariser), without a teacher."""

from __future__ import annotations

from spikedistill.components import ComponentParams
from spikedistill.distill.method_inputs import MethodInputs, Need
from spikedistill.distill.precision import full_precision
from spikedistill.lazy import torch


class Params(ComponentParams):
    """The baseline has no parameters."""


@full_precision
def per_step_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(1 / T) sum over t of CE(z[t], y), averaged over the batch (Deng et al. 2022, TET, without the MSE term).

    Args:
        logits: z [T, B, C].
        labels: y [B].

    Returns:
        Scalar in nats.
    """
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)))


def needs(params: Params) -> frozenset[Need]:
    """What the loss takes beside the student's logits and the labels."""
    return frozenset({"steps"})


def loss(inputs: MethodInputs, params: Params) -> dict[str, torch.Tensor]:
    """The terms of the loss, weighted."""
    return {"ce": per_step_cross_entropy(inputs.logits, inputs.labels)}
