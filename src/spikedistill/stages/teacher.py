"""Stage `teacher`: prepared data in, a trained ANN out."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from spikedistill.plan import TeacherSpec
from spikedistill.stages.fitting import fit
from spikedistill.stages.runner import StageJob


def build(spec: TeacherSpec, job: StageJob) -> None:
    """Train the teacher of `spec` by cross-entropy."""
    fit(spec, job, lambda data, world: _cross_entropy)


def _cross_entropy(outputs: Tensor, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    return {"ce": functional.cross_entropy(outputs, labels)}
