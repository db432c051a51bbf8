"""HTA-KL (arXiv 2504.20445): head-tail aware divergence, forward KL for likely classes and reverse KL for unlikely ones."""

from __future__ import annotations

from pydantic import Field

from spikedistill.components import ComponentParams
from spikedistill.distill.ce import mean_cross_entropy
from spikedistill.distill.method_inputs import MethodInputs, Need
from spikedistill.distill.precision import at_least_float32, full_precision
from spikedistill.lazy import torch

SMOOTHS_LABELS = True


class Params(ComponentParams):
    """L = CE + alpha * HTA, both on the mean logits."""

    alpha: float = Field(1.0, ge=0, description="Weight of the distillation term.")
    temperature: float = Field(3.0, gt=0, description="Softmax temperature tau; the term is scaled by its square.")
    head: float = Field(0.5, gt=0, lt=1, description="Cumulative probability of the teacher's most likely classes, the head.")


@full_precision
def head_tail_divergence(logits: torch.Tensor, teacher: torch.Tensor, temperature: float, head: float) -> torch.Tensor:
    """Return tau^2 * mean over b of w[b] KL(q[b] || p[b]) + (1 - w[b]) KL(p[b] || q[b]).

    p and q are the softmax of z / tau and a / tau. The head of a sample is the smallest set of the teacher's likeliest classes
    whose probabilities reach `head` together. w is the head's share of the distance: sum over the head of |q - p|, divided by the
    sum over all classes; it gets no gradient.

    Args:
        logits: z [B, C] of the student, averaged over time.
        teacher: a [B, C]; it gets no gradient.
        temperature: tau > 0.
        head: in (0, 1).

    Returns:
        Scalar in nats.
    """
    log_p, log_q = (torch.log_softmax(each / temperature, dim=-1) for each in (logits, teacher.detach()))
    p, q = log_p.exp(), log_q.exp()
    likely, order = q.sort(dim=-1, descending=True)
    in_head = likely.cumsum(-1) - likely < head  # what lies before a class is less than the head
    distance = (q - p.detach()).abs().gather(-1, order)
    weight = (distance * in_head).sum(-1) / distance.sum(-1).clamp(min=1e-12)
    forward, reverse = (q * (log_q - log_p)).sum(-1), (p * (log_p - log_q)).sum(-1)
    return temperature**2 * (weight * forward + (1 - weight) * reverse).mean()


def needs(params: Params) -> frozenset[Need]:
    """Return what the loss takes besides the student's logits and the labels."""
    return frozenset({"teacher"})


def loss(inputs: MethodInputs, params: Params) -> dict[str, torch.Tensor]:
    """Return the weighted terms of the loss."""
    mean = inputs.logits.mean(0, dtype=at_least_float32(inputs.logits.dtype))
    return {
        "ce": mean_cross_entropy(inputs.logits, inputs.labels, inputs.label_smoothing),
        "hta": params.alpha * head_tail_divergence(mean, inputs.teacher, params.temperature, params.head),
    }
