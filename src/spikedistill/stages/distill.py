"""Stage `distill`: prepared data and, for most methods, a teacher in; a trained SNN out."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from spikedistill import components
from spikedistill.data.store import SampleStore
from spikedistill.distill.method_inputs import MethodInputs
from spikedistill.models import ModelOutput, Student, Teacher, add_exits
from spikedistill.plan.stages import DistillSpec
from spikedistill.stages.network_io import build_network, load_network, read_model_spec
from spikedistill.stages.runner import StageJob
from spikedistill.stages.training import fit
from spikedistill.train.distributed import World
from spikedistill.train.engine import Batch


def build(spec: DistillSpec, job: StageJob) -> None:
    """Train the student of `spec` with its method."""
    fit(spec, job, lambda data: student_of(spec, data), lambda data, world: Distillation(spec, _teacher(job, data, world)))


def student_of(spec: DistillSpec, data: SampleStore) -> Student:
    """The student of `spec` with fresh weights, and with side branches if its method needs them."""
    student = build_network(spec, data)
    assert isinstance(student, Student)
    method = components.load("distill", spec.method)
    params = method.Params.model_validate(spec.params)
    if "exits" in method.needs(params):
        add_exits(student, spec.arch, num_classes=data.num_classes, pooling=params.pooling, entry=spec.network)
    return student


def _teacher(job: StageJob, data: SampleStore, world: World) -> Teacher | None:
    if "teacher" not in job.inputs:
        return None
    folder = job.inputs["teacher"]
    teacher = load_network(read_model_spec(folder), data, folder).to(world.device)
    assert isinstance(teacher, Teacher)
    return teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as the student


class Distillation:
    """A method as the engine's objective: runs the teacher, if any, on the batch that the student saw."""

    def __init__(self, spec: DistillSpec, teacher: Teacher | None) -> None:
        """Use the method of `spec`, with a teacher in evaluation mode."""
        self._method = components.load("distill", spec.method)
        self._params = self._method.Params.model_validate(spec.params)
        self._needs = self._method.needs(self._params)
        self._teacher = teacher
        self._seed = spec.seed
        self._time_steps = spec.time_steps
        self._in_bf16 = spec.train.precision == "bf16"

    def __call__(self, outputs: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """The terms of the method's loss."""
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
                teacher_weight=self._teacher.network.class_weight if with_features and self._teacher else None,
                noise=self._noise(outputs, batch) if "noise" in self._needs else None,
                steps_per_row=self._time_steps // len(outputs.logits),
            ),
            self._params,
        )

    def _run_teacher(self, teacher: Teacher, inputs: Tensor, dtype: torch.dtype) -> ModelOutput:
        """The teacher's outputs in `dtype`, computed in the precision of the student's forward pass."""
        with torch.inference_mode(), torch.autocast(inputs.device.type, torch.bfloat16, enabled=self._in_bf16):
            outputs = teacher(inputs)
        # copies, because autograd takes no tensors that inference mode has made
        features = outputs.features.to(dtype, copy=True) if "features" in self._needs else outputs.features
        return ModelOutput(outputs.logits.to(dtype, copy=True), features)

    def _noise(self, outputs: ModelOutput, batch: Batch) -> Tensor:
        """Standard normal draws [B, C]: those of this rank's rows of the global batch."""
        key = f"noise {self._seed} {batch.epoch} {batch.step}".encode()
        seed = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1
        logits = outputs.logits
        generator = torch.Generator(logits.device).manual_seed(seed)
        draws = torch.randn(batch.global_size, logits.shape[-1], generator=generator, device=logits.device, dtype=logits.dtype)
        return draws[batch.first : batch.first + len(batch.labels)]
