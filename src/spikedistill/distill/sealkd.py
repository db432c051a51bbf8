"""SeAl-KD (arXiv 2605.14252): error-aware alignment with the teacher, and similarity-aware alignment of the time steps."""

from __future__ import annotations

import math

from pydantic import Field

from spikedistill.components import ComponentParams
from spikedistill.distill.kd import kd_divergence
from spikedistill.distill.method_inputs import MethodInputs, Need
from spikedistill.distill.precision import full_precision
from spikedistill.distill.tet import per_step_cross_entropy
from spikedistill.lazy import torch

SMOOTHS_LABELS = True


class Params(ComponentParams):
    """L = per-step CE + alpha * ELA + beta * STA."""

    alpha: float = Field(0.6, ge=0, description="Weight of ELA, the error-aware alignment with the teacher.")
    beta: float = Field(0.15, ge=0, description="Weight of STA, the similarity-aware alignment of the steps with each other.")
    temperature: float = Field(3.0, gt=0, description="Softmax temperature tau of both terms, which are scaled by its square.")


@full_precision
def error_aware_alignment(logits: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return ELA = (1 / T) sum over t of KD(s[t] <- a'[t]; tau).

    With p = argmax z[t, b]: s is z with s[p] := s[y], including the gradient, and a' is a with a'[y] = a'[p] := min(a[y], a[p]).
    Where a step is correct, p = y, and the term is ordinary distillation. A wrongly predicted class gets no gradient.

    Args:
        logits: z [T, B, C].
        teacher: a [B, C]; it gets no gradient.
        labels: y [B].
        temperature: tau > 0.

    Returns:
        Scalar in nats.
    """
    predicted = logits.detach().argmax(-1, keepdim=True)
    true = labels.expand(len(logits), -1).unsqueeze(-1)
    student = logits.scatter(-1, predicted, logits.gather(-1, true))
    target = teacher.detach().expand(len(logits), -1, -1)
    lower = torch.minimum(target.gather(-1, true), target.gather(-1, predicted))
    return kd_divergence(student, target.scatter(-1, true, lower).scatter(-1, predicted, lower), temperature)


@full_precision
def temporal_targets(logits: torch.Tensor) -> torch.Tensor:
    """Return each step's target from the other steps: target[i] = sum over j != i of W[i, j] z[j], without gradient.

    W[i, :] = softmax over j != i of conf[j] * cosine(z[i], z[j]); conf[j] = (ln C - H[j]) / ln C, where
    H[j] = -sum over c of p ln(p + 1e-8) and p = softmax(z[j]). A single step is its own target.

    Args:
        logits: z [T, B, C], C > 1.

    Returns:
        [T, B, C].
    """
    logits = logits.detach()
    probabilities = torch.softmax(logits, dim=-1)
    entropy = -(probabilities * torch.log(probabilities + 1e-8)).sum(-1)
    confidence = 1 - entropy / math.log(logits.shape[-1])
    directions = torch.nn.functional.normalize(logits, dim=-1, eps=1e-12)
    # products and sums instead of matmul, which may round to TF32 on a GPU
    similarity = (directions[:, None] * directions).sum(-1)  # [T, T, B]
    own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)[..., None]
    scores = (confidence * similarity).masked_fill(own, torch.finfo(logits.dtype).min)
    return (torch.softmax(scores, dim=1)[..., None] * logits).sum(1)


def temporal_alignment(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return STA = (1 / T) sum over t of KD(z[t] <- target[t]; tau), with the targets of `temporal_targets`.

    Args:
        logits: z [T, B, C], C > 1.
        temperature: tau > 0.

    Returns:
        Scalar in nats; 0 for a single step.
    """
    return kd_divergence(logits, temporal_targets(logits), temperature)


def sealkd_loss(
    logits: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, *, alpha: float, beta: float, temperature: float
) -> torch.Tensor:
    """Return per-step CE(z, y) + alpha * ELA + beta * STA.

    Args:
        logits: z [T, B, C].
        teacher: a [B, C].
        labels: y [B].
        alpha: weight of ELA.
        beta: weight of STA.
        temperature: tau > 0 of both terms.

    Returns:
        Scalar in nats.
    """
    params = Params(alpha=alpha, beta=beta, temperature=temperature)
    return torch.stack(list(loss(MethodInputs(logits, labels, teacher), params).values())).sum()


def needs(params: Params) -> frozenset[Need]:
    """Return what the loss takes besides the student's logits and the labels."""
    return frozenset({"teacher", "steps"})


def loss(inputs: MethodInputs, params: Params) -> dict[str, torch.Tensor]:
    """Return the weighted terms of the loss."""
    ela = error_aware_alignment(inputs.logits, inputs.teacher, inputs.labels, params.temperature)
    return {
        "ce": per_step_cross_entropy(inputs.logits, inputs.labels, inputs.label_smoothing),
        "ela": params.alpha * ela,
        "sta": params.beta * temporal_alignment(inputs.logits, params.temperature),
    }
