"""Cross-entropy at every time step (temporal efficient training without its regulariser), without a teacher."""

from __future__ import annotations

from spikedistill.components import ComponentParams
from spikedistill.distill.forward import Forward
from spikedistill.lazy import torch

NEEDS_TEACHER = False
NEEDS = frozenset({"steps"})


class Params(ComponentParams):
    """The baseline has no parameters."""


def per_step_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(1 / T) sum over t of CE(z[t], y), averaged over the batch (Deng et al. 2022, TET, without the MSE term).

    Args:
        logits: z [T, B, C].
        labels: y [B].

    Returns:
        Scalar in nats.
    """
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)))


def loss(forward: Forward, params: Params) -> dict[str, torch.Tensor]:
    """The terms of the loss, weighted."""
    return {"ce": per_step_cross_entropy(forward.logits, forward.labels)}
