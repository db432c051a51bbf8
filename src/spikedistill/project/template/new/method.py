"""Cross-entropy at every time step, and a divergence from the teacher at every time step."""

from __future__ import annotations

from pydantic import Field

from spikedistill.components import ComponentParams
from spikedistill.distill.kd import per_step_kd
from spikedistill.distill.method_inputs import MethodInputs, Need
from spikedistill.distill.tet import per_step_cross_entropy
from spikedistill.lazy import torch

SMOOTHS_LABELS = True  # False, or left out: with `train.label_smoothing`, this method is refused


class Params(ComponentParams):
    """L = CE + weight * KD."""

    weight: float = Field(1.0, ge=0, description="Weight of the distillation term.")
    temperature: float = Field(3.0, gt=0, description="Softmax temperature tau.")


def needs(params: Params) -> frozenset[Need]:
    """Return what the loss takes besides the student's logits and the labels."""
    return frozenset({"teacher", "steps"})


def loss(inputs: MethodInputs, params: Params) -> dict[str, torch.Tensor]:
    """Return the weighted terms of the loss, whose sum is minimised."""
    return {
        "ce": per_step_cross_entropy(inputs.logits, inputs.labels, inputs.label_smoothing),
        "kd": params.weight * per_step_kd(inputs.logits, inputs.teacher, params.temperature),
    }
