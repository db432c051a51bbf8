"""Joint distillation of logits and of the features of several stages, in the form of KDSNN (arXiv 2304.05627)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

from pydantic import Field

from spikedistill.components import ComponentParams
from spikedistill.distill.ce import mean_cross_entropy
from spikedistill.distill.kd import mean_kd
from spikedistill.distill.method_inputs import MethodInputs, Need
from spikedistill.distill.precision import full_precision
from spikedistill.distill.shapes import Shapes, paired
from spikedistill.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

SMOOTHS_LABELS = True


class Params(ComponentParams):
    """L = (1 - alpha) * CE + alpha * KD of the mean logits + beta * distance of the mean features from the teacher's."""

    alpha: float = Field(0.5, ge=0, le=1, description="Weight of the distillation of logits; the cross-entropy has 1 - alpha.")
    beta: float = Field(1.0, ge=0, description="Weight of the distance between the feature maps.")
    temperature: float = Field(4.0, gt=0, description="Softmax temperature tau; the term is scaled by its square.")
    features: Literal["each", "last"] = Field(
        "each", description="Stages whose maps are compared: each, with their distances added, or the last."
    )


@full_precision
def rate_distance(maps: Tensor, teacher: Tensor, regressor: nn.Module) -> Tensor:
    """Return the mean over samples, channels and positions of (regressor(mean over t of G[t, b]) - F[b])^2.

    Args:
        maps: G [T, B, D, h, w] of the student; the mean of spikes is the firing rate.
        teacher: F [B, D', h', w']; it gets no gradient.
        regressor: [B, D, h, w] -> [B, D', h', w'].

    Returns:
        Scalar.
    """
    return (regressor(maps.mean(0)) - teacher.detach()).square().mean()


def needs(params: Params) -> frozenset[Need]:
    """Return what the loss takes besides the student's logits and the labels."""
    return frozenset({"teacher", "last_stage" if params.features == "last" else "stages"})


def build(params: Params, shapes: Shapes) -> nn.Module:
    """Return a regressor for each compared stage."""
    from torch import nn

    from spikedistill.distill.adapters import Regressor

    pairs = shapes.pairs[-1:] if params.features == "last" else shapes.pairs
    return nn.ModuleList(Regressor(student, teacher) for student, teacher in pairs)


def loss(inputs: MethodInputs, params: Params) -> dict[str, torch.Tensor]:
    """Return the weighted terms of the loss."""
    assert inputs.stages is not None and inputs.teacher_stages is not None and inputs.parts is not None
    pairs = paired(inputs.stages, inputs.teacher_stages)
    regressors = cast("nn.ModuleList", inputs.parts)
    distances = [rate_distance(own, its, regressor) for (own, its), regressor in zip(pairs, regressors, strict=True)]
    return {
        "ce": (1 - params.alpha) * mean_cross_entropy(inputs.logits, inputs.labels, inputs.label_smoothing),
        "kd": params.alpha * mean_kd(inputs.logits, inputs.teacher, params.temperature),
        "features": params.beta * torch.stack(distances).sum(),
    }
