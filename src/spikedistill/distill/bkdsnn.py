"""BKDSNN (arXiv 2407.09083): the student's features, blurred by a random mask, restore the teacher's; and soft labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from spikedistill.components import ComponentParams
from spikedistill.distill.ce import mean_cross_entropy
from spikedistill.distill.method_inputs import MethodInputs, Need
from spikedistill.distill.precision import at_least_float32, full_precision
from spikedistill.distill.shapes import Shapes
from spikedistill.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

SMOOTHS_LABELS = True


class Params(ComponentParams):
    """L = CE of the mean logits + alpha * WSL + beta * BKD."""

    alpha: float = Field(1.0, ge=0, description="Weight of WSL, the distillation of logits by weighted soft labels.")
    beta: float = Field(0.002, ge=0, description="Weight of BKD, the restoration of the teacher's features.")
    temperature: float = Field(2.0, gt=0, description="Softmax temperature tau of WSL; the term is scaled by its square.")
    blur: float = Field(0.15, ge=0, lt=1, description="Probability that a channel of a sample's features is blanked out.")


@full_precision
def blurred_feature_loss(maps: Tensor, teacher: Tensor, uniform: Tensor, parts: nn.Module, *, blur: float) -> Tensor:
    """Return BKD: the sum over channels and positions of (restore(mask * align(G[b])) - F[b])^2, averaged over samples.

    Args:
        maps: G [T, B, D, h, w] of the student's last stage; the loss sees their mean over T.
        teacher: F [B, D', h', w'] of the teacher's last stage; it gets no gradient.
        uniform: u [B, D'] in [0, 1), redrawn at every step; the mask of a channel is 0 where u < blur, else 1.
        parts: with `align`, [B, D, h, w] -> [B, D', h', w'], and `restore`, which keeps that shape.
        blur: probability in [0, 1).

    Returns:
        Scalar.
    """
    kept = (uniform >= blur).to(maps.dtype)[..., None, None]
    restored = parts["restore"](kept * parts["align"](maps.mean(0)))  # type: ignore[index]
    return (restored - teacher.detach()).square().sum((1, 2, 3)).mean()


@full_precision
def weighted_soft_label_loss(logits: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return WSL = tau^2 * mean over b of w[b] * H(S(a[b] / tau), S(z[b] / tau)), H the cross-entropy of two distributions.

    The weight w[b] = 1 - exp(-CE(z[b], y[b]) / CE(a[b], y[b])), without gradient, is large where the student is worse than the
    teacher (weighted soft label distillation, arXiv 2102.00650).

    Args:
        logits: z [B, C], averaged over time.
        teacher: a [B, C]; it gets no gradient.
        labels: y [B].
        temperature: tau > 0.

    Returns:
        Scalar in nats.
    """
    teacher, cross_entropy = teacher.detach(), torch.nn.functional.cross_entropy
    own, its = (cross_entropy(each, labels, reduction="none") for each in (logits.detach(), teacher))
    weight = 1 - torch.exp(-own / (its + 1e-7))
    soft = cross_entropy(logits / temperature, torch.softmax(teacher / temperature, dim=-1), reduction="none")
    return temperature**2 * (weight * soft).mean()


def needs(params: Params) -> frozenset[Need]:
    """Return what the loss takes besides the student's logits and the labels."""
    return frozenset({"teacher", "last_stage", "uniform"})


def build(params: Params, shapes: Shapes) -> nn.Module:
    """Return the adapter and the restoring layers of the last stage."""
    from torch import nn

    from spikedistill.distill.adapters import Regressor, Restorer

    student, teacher = shapes.pairs[-1]
    return nn.ModuleDict({"align": Regressor(student, teacher), "restore": Restorer(teacher.channels)})


def loss(inputs: MethodInputs, params: Params) -> dict[str, torch.Tensor]:
    """Return the weighted terms of the loss."""
    assert inputs.stages is not None and inputs.teacher_stages is not None, "the stage provides what a method needs"
    assert inputs.uniform is not None and inputs.parts is not None
    mean = inputs.logits.mean(0, dtype=at_least_float32(inputs.logits.dtype))
    blurred = blurred_feature_loss(inputs.stages[-1], inputs.teacher_stages[-1], inputs.uniform, inputs.parts, blur=params.blur)
    return {
        "ce": mean_cross_entropy(inputs.logits, inputs.labels, inputs.label_smoothing),
        "wsl": params.alpha * weighted_soft_label_loss(mean, inputs.teacher, inputs.labels, params.temperature),
        "bkd": params.beta * blurred,
    }
