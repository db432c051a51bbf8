"""Logit distillation from a teacher (Hinton et al. 2015): at every time step, or of the mean over time."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from spikedistill.components import ComponentParams
from spikedistill.distill.ce import mean_cross_entropy
from spikedistill.distill.method_inputs import MethodInputs, Need
from spikedistill.distill.precision import full_precision
from spikedistill.distill.tet import per_step_cross_entropy
from spikedistill.lazy import torch

SMOOTHS_LABELS = True


class Params(ComponentParams):
    """L = CE + alpha * KD, both on the logits of every step or both on their mean over time."""

    alpha: float = Field(1.0, ge=0, description="Weight of the distillation term.")
    temperature: float = Field(3.0, gt=0, description="Softmax temperature tau; the term is scaled by its square.")
    logits: Literal["per_step", "mean"] = Field(
        "per_step", description="Logits in both terms: those of every time step, or their mean over time."
    )


@full_precision
def divergences(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return tau^2 * KL(softmax(teacher / tau) || softmax(student / tau)) of each row, summed over classes.

    Args:
        student: logits [..., B, C] of the student; they get gradients.
        teacher: logits [B, C] or [..., B, C] of the target; they get no gradient.
        temperature: tau > 0.

    Returns:
        [..., B] in nats.
    """
    log_p = torch.log_softmax(student / temperature, dim=-1)
    log_q = torch.log_softmax(teacher.detach() / temperature, dim=-1)
    return temperature**2 * torch.nn.functional.kl_div(log_p, log_q, reduction="none", log_target=True).sum(-1)


def kd_divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the mean of `divergences` over samples and, for [T, B, C], over steps.

    Args:
        student: logits [B, C] or [T, B, C] of the student; they get gradients.
        teacher: logits [B, C] or [T, B, C] of the target; they get no gradient.
        temperature: tau > 0.

    Returns:
        Scalar in nats; 0 where both distributions agree.
    """
    return divergences(student, teacher, temperature).mean()


def per_step_kd(logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return (1 / T) sum over t of `kd_divergence`(z[t], teacher).

    Args:
        logits: z [T, B, C] of the student.
        teacher: logits [B, C]; they get no gradient.
        temperature: tau > 0.

    Returns:
        Scalar in nats.
    """
    return kd_divergence(logits, teacher, temperature)


@full_precision
def mean_kd(logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return `kd_divergence`(mean over t of z[t], teacher); the arguments are those of `per_step_kd`."""
    return kd_divergence(logits.mean(0), teacher, temperature)


def needs(params: Params) -> frozenset[Need]:
    """Return what the loss takes besides the student's logits and the labels."""
    return frozenset({"teacher", "steps"} if params.logits == "per_step" else {"teacher"})


def loss(inputs: MethodInputs, params: Params) -> dict[str, torch.Tensor]:
    """Return the weighted terms of the loss."""
    per_step = params.logits == "per_step"
    cross_entropy, distillation = (per_step_cross_entropy, per_step_kd) if per_step else (mean_cross_entropy, mean_kd)
    return {
        "ce": cross_entropy(inputs.logits, inputs.labels, inputs.label_smoothing),
        "kd": params.alpha * distillation(inputs.logits, inputs.teacher, params.temperature),
    }
