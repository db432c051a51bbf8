"""Layers that a method trains along with the student: sized by both networks, initialised from the seed, and put into it."""

from __future__ import annotations

from functools import partial
from types import ModuleType

import torch
from torch import Tensor, nn

from spikedistill import components
from spikedistill.data.loading.rng import derived_seed
from spikedistill.data.store import SampleStore
from spikedistill.distill.shapes import MapShape, Shapes
from spikedistill.errors import ConfigError
from spikedistill.models import Student, Teacher
from spikedistill.plan.stages import DistillSpec
from spikedistill.plugins import file_of


def add_parts(student: Student, teacher: Teacher | None, spec: DistillSpec, sample: Tensor) -> None:
    """Let the method of a spec build its parts, if it has any, as `student.parts`.

    Their initial weights are a function of the seed of the spec and of the shapes. With rate-based backpropagation, their
    gradients are scaled as the student's are.

    Args:
        student: with fresh weights, on the CPU.
        teacher: in evaluation mode; None for a method without one.
        spec: of the student.
        sample: an input of the student for one sample, [1, C, H, W] or [T, 1, C, H, W]; its values do not matter.

    Raises:
        ConfigError: if the method builds something else than a module.
    """
    method = components.load("distill", spec.method)
    params = method.Params.model_validate(spec.params)
    if not hasattr(method, "build"):
        return
    compares_maps = bool(method.needs(params) & {"stages", "last_stage", "features"})
    shapes = shapes_of(student, teacher, sample, compares_maps=compares_maps)
    torch.manual_seed(derived_seed("parts", spec.seed, epoch=0, step=0))
    parts = method.build(params, shapes)
    if not isinstance(parts, nn.Module):
        raise ConfigError(_no_module(method, parts))
    if student.backward == "rate" and student.scale_grad_by_steps:
        for parameter in parts.parameters():
            parameter.register_hook(partial(torch.mul, other=1 / student.time_steps))
    student.parts = parts


def _no_module(method: ModuleType, parts: object) -> str:
    return f"{file_of(method.__name__)}: build returns a torch.nn.Module with what the method trains; found {parts!r:.80}"


def example_input(data: SampleStore, spec: DistillSpec) -> Tensor:
    """Return an input of the shape that the student gets for one sample."""
    height, width = spec.inputs.size(*data.samples.shape[-2:])
    shape = (1, data.channels, height, width)
    return torch.zeros(shape if data.kind == "images" else (spec.time_steps, *shape))


@torch.no_grad()
def shapes_of(student: Student, teacher: Teacher | None, sample: Tensor, *, compares_maps: bool = True) -> Shapes:
    """Measure the shapes of the maps after every stage with one sample; the networks stay as they are.

    Args:
        student: the student.
        teacher: the teacher, if there is one.
        sample: an input of the student for one sample.
        compares_maps: whether the method needs maps; if not, a teacher without any has no shapes.

    Raises:
        ConfigError: if the teacher has no maps, and the method needs them.
    """
    before = student.training, student.returns_stages
    student.returns_stages = True
    outputs = student.eval()(sample)
    student.train(before[0])
    student.returns_stages = before[1]
    taught: tuple[Tensor, ...] = ()
    if teacher is not None:
        taught = teacher(sample.to(next(teacher.parameters()).device), returns_stages=True).stages
    if any(stage.dim() != 4 for stage in taught):
        if compares_maps:
            raise ConfigError(
                f"teacher: its features have the shape {tuple(taught[-1].shape)}, and the method compares maps [B, D, h, w]; "
                "choose a convolutional teacher.arch, such as resnet18"
            )
        taught = ()
    return Shapes(
        student=tuple(MapShape(*stage.shape[2:]) for stage in outputs.stages),
        teacher=tuple(MapShape(*stage.shape[1:]) for stage in taught),
        time_steps=student.time_steps,
        num_classes=outputs.logits.shape[-1],
    )
