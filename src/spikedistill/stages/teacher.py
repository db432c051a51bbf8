"""Stage `teacher`: trains an ANN on prepared data by cross-entropy, from a checkpoint if one is given; or only imports it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from spikedistill.models import ModelOutput
from spikedistill.plan.stages import TeacherSpec
from spikedistill.stages.imports import check_weights, load_into
from spikedistill.stages.network_io import build_network
from spikedistill.stages.runner import StageJob
from spikedistill.stages.training import import_and_save, open_training, train_and_save
from spikedistill.train.engine import Batch


def build(spec: TeacherSpec, job: StageJob) -> None:
    """Train the teacher of `spec` by cross-entropy, or import it."""
    check_weights(spec, job)
    if spec.train is None:
        import_and_save(spec, job)
        return
    with open_training(spec, job) as setup:
        torch.manual_seed(spec.seed)  # of the initial weights
        teacher = build_network(spec, setup.data)
        load_into(teacher, spec, job, setup.data)
        train_and_save(setup, teacher.to(setup.world.device), CrossEntropy(setup.train.label_smoothing))


class CrossEntropy:
    """Cross-entropy of an ANN's logits with the labels."""

    def __init__(self, label_smoothing: float) -> None:
        """Spread this share of the target over all classes."""
        self._label_smoothing = label_smoothing

    def prepare(self, batch: Batch) -> None:
        """Do nothing: nothing is drawn."""

    def __call__(self, outputs: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """Return the one term of the loss."""
        return batch.over_labels(
            lambda labels: {"ce": functional.cross_entropy(outputs.logits, labels, label_smoothing=self._label_smoothing)}
        )
