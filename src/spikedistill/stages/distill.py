"""Stage `distill`: trains an SNN on prepared data with one method, for most methods from a teacher; or imports one."""

from __future__ import annotations

import torch
from torch import Tensor

from spikedistill import components
from spikedistill.data.loading.rng import derived_seed
from spikedistill.data.store import SampleStore
from spikedistill.distill.method_inputs import MethodInputs
from spikedistill.models import ModelOutput, Student, Teacher, add_exits
from spikedistill.plan.stages import DistillSpec
from spikedistill.stages.imports import check_weights
from spikedistill.stages.network_io import build_network, load_network, read_model_spec
from spikedistill.stages.runner import StageJob
from spikedistill.stages.training import import_and_save, open_training, train_and_save
from spikedistill.train.engine import Batch


def build(spec: DistillSpec, job: StageJob) -> None:
    """Train the student of `spec` with its method, or import it."""
    if spec.train is None:
        check_weights(spec, job)
        import_and_save(spec, job)
        return
    with open_training(spec, job) as setup:
        torch.manual_seed(spec.seed)  # of the initial weights
        student = build_student_of(spec, setup.data).to(setup.world.device)
        teacher = _load_teacher(job, setup.data, setup.world.device)
        train_and_save(setup, student, Distillation(spec, teacher))


def build_student_of(spec: DistillSpec, data: SampleStore) -> Student:
    """Build the student of `spec` with fresh weights, and with side branches if its method needs them."""
    student = build_network(spec, data)
    assert isinstance(student, Student)
    method = components.load("distill", spec.method)
    params = method.Params.model_validate(spec.params)
    if "exits" in method.needs(params):
        add_exits(student, spec.arch, num_classes=data.num_classes, pooling=params.pooling, entry=spec.network)
    return student


def _load_teacher(job: StageJob, data: SampleStore, device: torch.device) -> Teacher | None:
    """Load the upstream teacher in evaluation mode; None for a method without one."""
    if "teacher" not in job.inputs:
        return None
    folder = job.inputs["teacher"]
    teacher = load_network(read_model_spec(folder), data, folder).to(device)
    assert isinstance(teacher, Teacher)
    return teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the layout of the student


class Distillation:
    """A method as the objective of the engine; it runs the teacher, if there is one, on the batch that the student saw."""

    def __init__(self, spec: DistillSpec, teacher: Teacher | None) -> None:
        """Use the method of `spec` and a teacher in evaluation mode."""
        self._method = components.load("distill", spec.method)
        self._params = self._method.Params.model_validate(spec.params)
        self._needs = self._method.needs(self._params)
        self._teacher = teacher
        self._seed = spec.seed
        self._time_steps = spec.time_steps
        self._in_bf16 = spec.train is not None and spec.train.precision == "bf16"

    def __call__(self, outputs: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of the method's loss by name."""
        teacher = None if self._teacher is None else self._run_teacher(self._teacher, batch.inputs, outputs.logits.dtype)
        with_features = "features" in self._needs
        return self._method.loss(
            MethodInputs(
                logits=outputs.logits,
                labels=batch.labels,
                teacher_logits=None if teacher is None else teacher.logits,
                exits=outputs.exits,
                features=outputs.features if with_features else None,
                teacher_features=teacher.features if with_features and teacher else None,
                teacher_weight=self._teacher.class_weight if with_features and self._teacher else None,
                noise=self._noise(outputs, batch) if "noise" in self._needs else None,
                steps_per_row=self._time_steps // len(outputs.logits),
            ),
            self._params,
        )

    def _run_teacher(self, teacher: Teacher, inputs: Tensor, dtype: torch.dtype) -> ModelOutput:
        """Return the teacher's output in `dtype`, computed in the precision of the student's forward pass."""
        with torch.inference_mode(), torch.autocast(inputs.device.type, torch.bfloat16, enabled=self._in_bf16):
            outputs = teacher(inputs)
        # copied, because autograd cannot save tensors made in inference mode
        features = outputs.features.to(dtype, copy=True) if "features" in self._needs else outputs.features
        return ModelOutput(outputs.logits.to(dtype, copy=True), features)

    def _noise(self, outputs: ModelOutput, batch: Batch) -> Tensor:
        """Draw standard normal noise [B, C]: this rank's rows of one draw for the global batch."""
        logits = outputs.logits
        generator = torch.Generator(logits.device).manual_seed(derived_seed("noise", self._seed, batch.epoch, batch.step))
        draws = torch.randn(batch.global_size, logits.shape[-1], generator=generator, device=logits.device, dtype=logits.dtype)
        return draws[batch.first : batch.first + len(batch.labels)]
