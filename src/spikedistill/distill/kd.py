"""Logit distillation at every time step (Hinton et al. 2015), beside cross-entropy at every step."""

from __future__ import annotations

from pydantic import Field

from spikedistill.components import ComponentParams
from spikedistill.distill.forward import Forward
from spikedistill.distill.tet import per_step_cross_entropy
from spikedistill.lazy import torch

NEEDS_TEACHER = True
NEEDS = frozenset({"steps"})


class Params(ComponentParams):
    """L = per-step CE + alpha * per-step KD."""

    alpha: float = Field(1.0, ge=0, description="Weight of the distillation term.")
    temperature: float = Field(3.0, gt=0, description="Softmax temperature tau; the term is scaled by its square.")


def kd_divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """tau^2 * KL(softmax(teacher / tau) || softmax(student / tau)), summed over classes, averaged over samples.

    Args:
        student: logits [B, C] of the learner.
        teacher: logits [B, C] of the target; no gradient flows into them.
        temperature: tau > 0.

    Returns:
        Scalar in nats; 0 where both distributions agree.
    """
    log_p = torch.nn.functional.log_softmax(student / temperature, dim=-1)
    log_q = torch.nn.functional.log_softmax(teacher.detach() / temperature, dim=-1)
    divergence = torch.nn.functional.kl_div(log_p, log_q, reduction="batchmean", log_target=True)
    return temperature**2 * divergence


def per_step_kd(logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """(1 / T) sum over t of `kd_divergence`(z[t], teacher).

    Args:
        logits: z [T, B, C] of the student.
        teacher: logits [B, C].
        temperature: tau > 0.

    Returns:
        Scalar in nats.
    """
    return kd_divergence(logits.flatten(0, 1), teacher.repeat(len(logits), 1), temperature)


def loss(forward: Forward, params: Params) -> dict[str, torch.Tensor]:
    """The terms of the loss, weighted."""
    return {
        "ce": per_step_cross_entropy(forward.logits, forward.labels),
        "kd": params.alpha * per_step_kd(forward.logits, forward.teacher, params.temperature),
    }
