"""Stage `teacher`: prepared data in, a trained ANN out."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from spikedistill.models import ModelOutput
from spikedistill.plan.stages import TeacherSpec
from spikedistill.stages.network_io import build_network
from spikedistill.stages.runner import StageJob
from spikedistill.stages.training import fit
from spikedistill.train.engine import Batch


def build(spec: TeacherSpec, job: StageJob) -> None:
    """Train the teacher of `spec` by cross-entropy."""
    fit(spec, job, lambda data: build_network(spec, data), lambda data, world: _cross_entropy)


def _cross_entropy(outputs: ModelOutput, batch: Batch) -> dict[str, Tensor]:
    return {"ce": functional.cross_entropy(outputs.logits, batch.labels)}
