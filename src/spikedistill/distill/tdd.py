"""Temporal decoupling distillation (arXiv 2501.15925): every step learns from the teacher and from the other steps."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from spikedistill.components import ComponentParams, unknown
from spikedistill.distill.kd import per_step_kd
from spikedistill.distill.method_inputs import MethodInputs, Need
from spikedistill.distill.precision import full_precision
from spikedistill.distill.tet import per_step_cross_entropy
from spikedistill.lazy import torch

SelfTarget = Literal["ensemble", "correct_mean"]

SMOOTHS_LABELS = True


class Params(ComponentParams):
    """L = per-step CE + alpha * per-step KD from the teacher + beta * per-step KD from the student's own target."""

    alpha: float = Field(0.2, ge=0, description="Weight of per-step distillation from the teacher.")
    beta: float = Field(0.5, ge=0, description="Weight of per-step distillation from the student's own target.")
    temperature: float = Field(3.0, gt=0, description="Softmax temperature tau of both terms, which are scaled by its square.")
    self_target: SelfTarget = Field(
        "correct_mean",
        description="The student's own target. correct_mean (the authors' code): mean over the correct steps, uniform if there "
        "are none. ensemble (the paper): mean over all steps.",
    )


@full_precision
def self_target(logits: torch.Tensor, labels: torch.Tensor, kind: SelfTarget) -> torch.Tensor:
    """Return the student's own target w, in logits, without gradient.

    `ensemble`: w = mean over t of z[t]. `correct_mean`: w[b] = sum over t of m[t, b] z[t, b] / max(1, sum over t of m[t, b])
    with m[t, b] = 1 where argmax z[t, b] = y[b], so that w[b] = 0, a uniform target, where no step is correct.

    Args:
        logits: z [T, B, C].
        labels: y [B].
        kind: which of the two.

    Returns:
        w [B, C].

    Raises:
        ValueError: if the kind does not exist.
    """
    logits = logits.detach()
    if kind == "ensemble":
        return logits.mean(0)
    if kind == "correct_mean":
        right = (logits.argmax(-1, keepdim=True) == labels[:, None]).to(logits.dtype)
        return (right * logits).sum(0) / right.sum(0).clamp(min=1)
    raise ValueError(unknown("self target", kind, get_args(SelfTarget)))


def tdd_loss(
    logits: torch.Tensor,
    teacher: torch.Tensor,
    labels: torch.Tensor,
    *,
    alpha: float,
    beta: float,
    temperature: float,
    self_target: SelfTarget,
) -> torch.Tensor:
    """Return per-step CE(z, y) + alpha * per-step KD(z <- a) + beta * per-step KD(z <- w), with w from `self_target`.

    Args:
        logits: z [T, B, C].
        teacher: a [B, C].
        labels: y [B].
        alpha: weight of distillation from the teacher.
        beta: weight of distillation from w.
        temperature: tau > 0 of both terms.
        self_target: kind of w.

    Returns:
        Scalar in nats.
    """
    params = Params(alpha=alpha, beta=beta, temperature=temperature, self_target=self_target)
    return torch.stack(list(loss(MethodInputs(logits, labels, teacher), params).values())).sum()


def needs(params: Params) -> frozenset[Need]:
    """Return what the loss takes besides the student's logits and the labels."""
    return frozenset({"teacher", "steps"})


def loss(inputs: MethodInputs, params: Params) -> dict[str, torch.Tensor]:
    """Return the weighted terms of the loss."""
    target = self_target(inputs.logits, inputs.labels, params.self_target)
    return {
        "ce": per_step_cross_entropy(inputs.logits, inputs.labels, inputs.label_smoothing),
        "kd": params.alpha * per_step_kd(inputs.logits, inputs.teacher, params.temperature),
        "self": params.beta * per_step_kd(inputs.logits, target, params.temperature),
    }
