"""FitNets hints (Romero et al. 2015) at every time step: feature maps, brought to the teacher's width by 1x1 convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeVar, cast

from pydantic import Field

from spikedistill.components import ComponentParams
from spikedistill.distill.method_inputs import MethodInputs, Need
from spikedistill.distill.precision import full_precision
from spikedistill.distill.shapes import Shapes, paired
from spikedistill.distill.tet import per_step_cross_entropy
from spikedistill.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

Pair = TypeVar("Pair")

SMOOTHS_LABELS = True


class Params(ComponentParams):
    """L = CE of every step + beta * mean squared distance of the adapted maps of every step from the teacher's."""

    beta: float = Field(1.0, ge=0, description="Weight of the distance between the feature maps.")
    hint: Literal["middle", "last", "each"] = Field(
        "middle", description="Stages whose maps are compared: the middle one, the last, or each, with their distances added."
    )


@full_precision
def hint_loss(maps: Tensor, teacher: Tensor, regressor: nn.Module) -> Tensor:
    """Return the mean over steps, samples, channels and positions of (regressor(G[t, b]) - F[b])^2.

    Args:
        maps: G [T, B, D, h, w] of the student.
        teacher: F [B, D', h', w']; it gets no gradient.
        regressor: [N, D, h, w] -> [N, D', h', w'].

    Returns:
        Scalar.
    """
    adapted = regressor(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])
    return (adapted - teacher.detach()).square().mean()


def chosen(pairs: list[Pair], hint: Literal["middle", "last", "each"]) -> list[Pair]:
    """Return the paired stages that are compared; the middle one of K pairs has index K // 2."""
    return pairs if hint == "each" else [pairs[-1 if hint == "last" else len(pairs) // 2]]


def needs(params: Params) -> frozenset[Need]:
    """Return what the loss takes besides the student's logits and the labels."""
    return frozenset({"teacher", "steps", "last_stage" if params.hint == "last" else "stages"})


def build(params: Params, shapes: Shapes) -> nn.Module:
    """Return a regressor for each compared stage."""
    from torch import nn

    from spikedistill.distill.adapters import Regressor

    return nn.ModuleList(Regressor(student, teacher) for student, teacher in chosen(shapes.pairs, params.hint))


def loss(inputs: MethodInputs, params: Params) -> dict[str, torch.Tensor]:
    """Return the weighted terms of the loss."""
    assert inputs.stages is not None and inputs.teacher_stages is not None and inputs.parts is not None
    compared = chosen(paired(inputs.stages, inputs.teacher_stages), params.hint)
    regressors = cast("nn.ModuleList", inputs.parts)
    hints = [hint_loss(own, its, regressor) for (own, its), regressor in zip(compared, regressors, strict=True)]
    return {
        "ce": per_step_cross_entropy(inputs.logits, inputs.labels, inputs.label_smoothing),
        "hint": params.beta * torch.stack(hints).sum(),
    }
