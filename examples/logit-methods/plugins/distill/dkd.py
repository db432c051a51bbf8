"""Decoupled knowledge distillation (arXiv 2203.08679): the true class against the rest, the others among themselves."""

from __future__ import annotations

from pydantic import Field

from spikedistill.components import ComponentParams
from spikedistill.distill.ce import mean_cross_entropy
from spikedistill.distill.kd import divergences
from spikedistill.distill.method_inputs import MethodInputs, Need
from spikedistill.distill.precision import at_least_float32, full_precision
from spikedistill.lazy import torch

SMOOTHS_LABELS = True


class Params(ComponentParams):
    """L = CE + alpha * TCKD + beta * NCKD, all on the mean logits."""

    alpha: float = Field(1.0, ge=0, description="Weight of TCKD, the distillation of the true class against the rest.")
    beta: float = Field(8.0, ge=0, description="Weight of NCKD, the distillation of the other classes among themselves.")
    temperature: float = Field(4.0, gt=0, description="Softmax temperature tau; both terms are scaled by its square.")


@full_precision
def decoupled(logits: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, temperature: float) -> dict[str, torch.Tensor]:
    """Return both parts of the divergence of the teacher from the student, each averaged over samples.

    TCKD = tau^2 * KL of (q[y], 1 - q[y]) from (p[y], 1 - p[y]), and NCKD = tau^2 * KL of the classes without y, each scaled to
    the sum 1, where p and q are the softmax of z / tau and a / tau. TCKD + (1 - q[y]) * NCKD is the KL of all classes.

    Args:
        logits: z [B, C] of the student, averaged over time; C > 2, for with two classes NCKD is 0.
        teacher: a [B, C]; it gets no gradient.
        labels: y [B].
        temperature: tau > 0.

    Returns:
        Scalars "tckd" and "nckd" in nats.
    """
    others = torch.arange(logits.shape[-1] - 1, device=labels.device).expand(len(labels), -1)
    others = others + (others >= labels[:, None])  # the classes without y
    rest, its_rest = logits.gather(-1, others), teacher.gather(-1, others)
    # logits of (y, all other classes together)
    pair, its_pair = (
        torch.stack([all_.gather(-1, labels[:, None])[:, 0] / temperature, torch.logsumexp(other / temperature, -1)], -1)
        for all_, other in ((logits, rest), (teacher, its_rest))
    )
    return {
        "tckd": temperature**2 * divergences(pair, its_pair, 1.0).mean(),
        "nckd": divergences(rest, its_rest, temperature).mean(),
    }


def needs(params: Params) -> frozenset[Need]:
    """Return what the loss takes besides the student's logits and the labels."""
    return frozenset({"teacher"})


def loss(inputs: MethodInputs, params: Params) -> dict[str, torch.Tensor]:
    """Return the weighted terms of the loss."""
    mean = inputs.logits.mean(0, dtype=at_least_float32(inputs.logits.dtype))
    terms = decoupled(mean, inputs.teacher, inputs.labels, params.temperature)
    return {
        "ce": mean_cross_entropy(inputs.logits, inputs.labels, inputs.label_smoothing),
        "tckd": params.alpha * terms["tckd"],
        "nckd": params.beta * terms["nckd"],
    }
