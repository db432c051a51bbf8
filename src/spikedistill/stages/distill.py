"""Stage `distill`: prepared data and, for most methods, a teacher in; a trained SNN out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spikedistill import components
from spikedistill.artifacts import MANIFEST
from spikedistill.data.store import SampleStore
from spikedistill.distill.forward import Forward
from spikedistill.plan import DistillSpec
from spikedistill.stages.fitting import fit
from spikedistill.stages.networks import load_network, read_model_spec
from spikedistill.stages.runner import StageJob
from spikedistill.train.distributed import World


def build(spec: DistillSpec, job: StageJob) -> None:
    """Train the student of `spec` with its method."""
    fit(spec, job, lambda data, world: Distillation(spec, _teacher(job, data, world)))


def _teacher(job: StageJob, data: SampleStore, world: World) -> nn.Module | None:
    if "teacher" not in job.inputs:
        return None
    folder = job.inputs["teacher"]
    return load_network(read_model_spec(folder / MANIFEST), data, folder).to(world.device)


class Distillation:
    """A method as the engine's objective: runs the teacher, if any, on the batch that the student saw."""

    def __init__(self, spec: DistillSpec, teacher: nn.Module | None) -> None:
        """Use the method of `spec`, with a teacher in evaluation mode."""
        self._method = components.load("distill", spec.method)
        self._params = self._method.Params.model_validate(spec.params)
        self._teacher = teacher

    def __call__(self, outputs: Tensor, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The terms of the method's loss."""
        with torch.no_grad():
            teacher_logits = None if self._teacher is None else self._teacher(inputs).to(outputs.dtype)
        return self._method.loss(Forward(outputs, labels, teacher_logits), self._params)
