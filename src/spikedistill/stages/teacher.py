"""Stage `teacher`: trains an ANN on prepared data by cross-entropy."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from spikedistill.models import ModelOutput
from spikedistill.plan.stages import TeacherSpec
from spikedistill.stages.network_io import build_network
from spikedistill.stages.runner import StageJob
from spikedistill.stages.training import open_training, train_and_save
from spikedistill.train.engine import Batch


def build(spec: TeacherSpec, job: StageJob) -> None:
    """Train the teacher of `spec` by cross-entropy."""
    with open_training(spec, job) as setup:
        torch.manual_seed(spec.seed)  # of the initial weights
        teacher = build_network(spec, setup.data).to(setup.world.device)
        train_and_save(setup, teacher, _cross_entropy)


def _cross_entropy(outputs: ModelOutput, batch: Batch) -> dict[str, Tensor]:
    return {"ce": functional.cross_entropy(outputs.logits, batch.labels)}
