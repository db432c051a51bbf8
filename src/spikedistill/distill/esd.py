"""Enhanced self-distillation (arXiv 2510.06254): exits along the network learn from those exits that are correct."""

from __future__ import annotations

from typing import Literal, Self, get_args

from pydantic import Field, model_validator

from spikedistill.components import ComponentParams, unknown
from spikedistill.distill.kd import divergences
from spikedistill.distill.method_inputs import MethodInputs, Need
from spikedistill.distill.precision import full_precision
from spikedistill.distill.tdd import self_target
from spikedistill.lazy import torch
from spikedistill.models.settings import Pooling

Variant = Literal["cifar", "dvs", "imagenet"]

SMOOTHS_LABELS = True


class Params(ComponentParams):
    """L = weighted sum over exits of CE + beta * sum over exits of KD from the reliable teacher."""

    alpha: float = Field(1.0, ge=0, description="Weight of the cross-entropy of the exits that the variant selects.")
    beta: float = Field(0.3, ge=0, description="Weight of the self-distillation.")
    temperature: float = Field(3.0, gt=0, description="Softmax temperature tau; the term is scaled by its square.")
    variant: Variant = Field(
        "cifar",
        description="Weights of the cross-entropy in the authors' script of that name. cifar: alpha for every exit. "
        "imagenet: alpha for the branches, 1 for the last exit. dvs: 1 for every exit, without alpha.",
    )
    pooling: Pooling = Field(
        "global",
        description="Region of its last map that a branch averages: all of it (global), or the top left 4x4 (corner), as the "
        "authors' code does.",
    )

    @model_validator(mode="after")
    def _alpha_has_an_effect(self) -> Self:
        if self.variant == "dvs" and self.alpha != 1:
            raise ValueError("variant dvs has no alpha: leave alpha out, or choose variant cifar")
        return self


def reliable_teacher(exits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each sample's teacher: r[b] = mean of the exits that classify it correctly, without gradient.

    Args:
        exits: logits q [K, B, C].
        labels: y [B].

    Returns:
        r [B, C], zero where no exit is correct; and the mask [B] of samples with a teacher, sum over c of |r[b, c]| > 1e-6.
    """
    target = self_target(exits, labels, "correct_mean")
    return target, target.abs().sum(-1) > 1e-6


@full_precision
def exits_cross_entropy(
    exits: torch.Tensor, labels: torch.Tensor, alpha: float, variant: Variant, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Return the weighted sum over k of CE(q[k], y), with the variant's weights of (branches, last exit).

    Args:
        exits: q [K, B, C].
        labels: y [B].
        alpha: weight of the exits that the variant weights.
        variant: `cifar` (alpha, alpha), `imagenet` (alpha, 1) or `dvs` (1, 1).
        label_smoothing: share of the target that is spread over all classes.

    Returns:
        Scalar in nats.

    Raises:
        ValueError: if the variant does not exist.
    """
    weights = {"cifar": (alpha, alpha), "imagenet": (alpha, 1.0), "dvs": (1.0, 1.0)}
    if variant not in weights:
        raise ValueError(unknown("variant", variant, get_args(Variant)))
    branches, last = weights[variant]
    targets = labels.repeat(len(exits))
    rows = torch.nn.functional.cross_entropy(exits.flatten(0, 1), targets, reduction="none", label_smoothing=label_smoothing)
    each = rows.view(len(exits), -1).mean(1)
    return branches * each[:-1].sum() + last * each[-1]


@full_precision
def exits_distillation(exits: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the sum over k of SD_k = tau^2 / |V| * sum over b in V of KL(softmax(r[b] / tau) || softmax(q[k, b] / tau)).

    V is the set of samples with a `reliable_teacher` r. The sum is 0 if V is empty, where the authors' code returns NaN.

    Args:
        exits: q [K, B, C].
        labels: y [B].
        temperature: tau > 0.

    Returns:
        Scalar in nats.
    """
    target, has_teacher = reliable_teacher(exits, labels)
    return (divergences(exits, target, temperature) * has_teacher).sum() / has_teacher.sum().clamp(min=1)


def esd_loss(
    exits: torch.Tensor, labels: torch.Tensor, *, alpha: float, beta: float, temperature: float, variant: Variant
) -> torch.Tensor:
    """Return `exits_cross_entropy` + beta * `exits_distillation`, without the factor 1/T of rate-based backpropagation.

    Args:
        exits: q [K, B, C]; q[-1] is the SNN's own output.
        labels: y [B].
        alpha: weight of the cross-entropy of the exits that the variant weights.
        beta: weight of the self-distillation.
        temperature: tau > 0.
        variant: script of the authors that the weights come from.

    Returns:
        Scalar in nats.
    """
    return exits_cross_entropy(exits, labels, alpha, variant) + beta * exits_distillation(exits, labels, temperature)


def needs(params: Params) -> frozenset[Need]:
    """Return what the loss takes besides the student's logits and the labels."""
    return frozenset({"exits"})


def loss(inputs: MethodInputs, params: Params) -> dict[str, torch.Tensor]:
    """Return the weighted terms of the loss."""
    assert inputs.exits is not None, "the stage provides what a method needs"
    return {
        "ce": exits_cross_entropy(inputs.exits, inputs.labels, params.alpha, params.variant, inputs.label_smoothing),
        "self": params.beta * exits_distillation(inputs.exits, inputs.labels, params.temperature),
    }
