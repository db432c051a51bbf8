"""Stage `distill`: trains an SNN on prepared data with one method, for most methods from a teacher; or imports one."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from spikedistill import components
from spikedistill.data.store import SampleStore
from spikedistill.distill.method_inputs import MethodInputs
from spikedistill.models import ModelOutput, Student, Teacher, add_exits
from spikedistill.plan.stages import DistillSpec
from spikedistill.stages.imports import DataFacts, check_weights
from spikedistill.stages.method_parts import add_parts, example_input
from spikedistill.stages.network_io import build_network, load_network, read_model_spec
from spikedistill.stages.runner import StageJob
from spikedistill.stages.training import import_and_save, open_training, train_and_save
from spikedistill.train.engine import Batch
from spikedistill.train.network.preparation import prepare_teacher
from spikedistill.train.step.draws import Draws


def build(spec: DistillSpec, job: StageJob) -> None:
    """Train the student of `spec` with its method, or import it."""
    if spec.train is None:
        check_weights(spec, job)
        import_and_save(spec, job)
        return
    with open_training(spec, job) as setup:
        torch.manual_seed(spec.seed)  # of the initial weights
        student = build_student_of(spec, setup.data)
        teacher = _load_teacher(job, setup.data, setup.world.device)
        add_parts(student, teacher, spec, example_input(setup.data, spec))
        train_and_save(setup, student.to(setup.world.device), Distillation(spec, teacher, student))


def build_student_of(spec: DistillSpec, data: SampleStore | DataFacts) -> Student:
    """Build the student of `spec` with fresh weights, and with the side branches and maps that its method needs."""
    student = build_network(spec, data)
    assert isinstance(student, Student)
    method = components.load("distill", spec.method)
    params = method.Params.model_validate(spec.params)
    needs = method.needs(params)
    student.returns_stages = "stages" in needs
    if "exits" in needs:
        add_exits(student, spec.arch, num_classes=data.num_classes, pooling=params.pooling, entry=spec.network)
    return student


def _load_teacher(job: StageJob, data: SampleStore, device: torch.device) -> Teacher | None:
    """Load the upstream teacher in evaluation mode; None for a method without one."""
    if "teacher" not in job.inputs:
        return None
    folder = job.inputs["teacher"]
    teacher = load_network(read_model_spec(folder), data, folder)
    assert isinstance(teacher, Teacher)
    return prepare_teacher(teacher, device)


class Distillation:
    """A method as the objective of the engine; it runs the teacher, if there is one, on the batch that the student saw."""

    def __init__(self, spec: DistillSpec, teacher: Teacher | None, student: Student | None = None) -> None:
        """Use the method of `spec`, a teacher in evaluation mode, and the parts of the student, for methods that have some."""
        self._method = components.load("distill", spec.method)
        self._params = self._method.Params.model_validate(spec.params)
        self._needs = self._method.needs(self._params)
        self._teacher = teacher
        self._student = student
        self._draws = Draws(spec.seed)
        self._time_steps = spec.time_steps
        self._in_bf16 = spec.train is not None and spec.train.precision == "bf16"
        self._label_smoothing = spec.train.label_smoothing if spec.train is not None else 0.0

    def prepare(self, batch: Batch) -> None:
        """Draw the random numbers of a step, which a CUDA graph cannot draw."""
        self._draws.renew(batch)

    def __call__(self, outputs: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of the method's loss by name."""
        inputs = self._inputs(outputs, batch)
        return batch.over_labels(lambda labels: self._method.loss(replace(inputs, labels=labels), self._params))

    def _inputs(self, outputs: ModelOutput, batch: Batch) -> MethodInputs:
        """Run the teacher, if there is one, and collect what the method needs."""
        teacher = None if self._teacher is None else self._run_teacher(self._teacher, batch.inputs, outputs.logits.dtype)
        with_features = "features" in self._needs
        return MethodInputs(
            logits=outputs.logits,
            labels=batch.labels,
            teacher_logits=None if teacher is None else teacher.logits,
            exits=outputs.exits,
            features=outputs.features if with_features else None,
            teacher_features=teacher.features if with_features and teacher else None,
            teacher_weight=self._teacher.class_weight if with_features and self._teacher else None,
            noise=self._noise(outputs, batch) if "noise" in self._needs else None,
            stages=self._stages(outputs),
            teacher_stages=None if teacher is None else self._stages(teacher),
            uniform=None if teacher is None or "uniform" not in self._needs else self._uniform(teacher, batch),
            parts=None if self._student is None else self._student.parts,
            steps_per_row=self._time_steps // len(outputs.logits),
            label_smoothing=self._label_smoothing,
        )

    def _stages(self, outputs: ModelOutput) -> tuple[Tensor, ...] | None:
        """Return the maps that the method needs, of the student or the teacher."""
        if "stages" in self._needs:
            return outputs.stages
        return (outputs.features,) if "last_stage" in self._needs else None

    def _run_teacher(self, teacher: Teacher, inputs: Tensor, dtype: torch.dtype) -> ModelOutput:
        """Return the teacher's output in `dtype`, computed in the precision of the student's forward pass."""
        with torch.inference_mode(), torch.autocast(inputs.device.type, torch.bfloat16, enabled=self._in_bf16):
            outputs = teacher(inputs, returns_stages="stages" in self._needs)
        # copied, because autograd cannot save tensors made in inference mode
        logits, features, stages = outputs.logits.to(dtype, copy=True), outputs.features, outputs.stages
        if self._needs & {"features", "last_stage"}:
            features = features.to(dtype, copy=True)
        if stages is not None:
            stages = tuple(stage.to(dtype, copy=True) for stage in stages)
        return ModelOutput(logits, features, stages=stages)

    def _noise(self, outputs: ModelOutput, batch: Batch) -> Tensor:
        """Return standard normal noise [B, C]."""
        return self._draws.get("noise", "normal", outputs.logits, batch)

    def _uniform(self, teacher: ModelOutput, batch: Batch) -> Tensor:
        """Return numbers in [0, 1) [B, D], one for each channel of the teacher's last stage."""
        return self._draws.get("uniform", "uniform", teacher.logits.new_empty(teacher.features.shape[:2]), batch)
