"""Batches of random values with what a method asks for, and no more.

Letters: T step, B batch, C class, D channel, E exit.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Literal, get_args, get_origin

import torch
from torch import Tensor, nn

from spikedistill.contract.findings import require
from spikedistill.distill.method_inputs import MethodInputs
from spikedistill.distill.precision import at_least_float32
from spikedistill.distill.shapes import MapShape, Shapes

STUDENT = ("logits", "exits", "features", "stages")
"""Fields that get a gradient."""
TEACHER = ("teacher_logits", "teacher_features", "teacher_weight", "teacher_stages")
BATCH_FIRST = ("labels", "teacher_logits", "teacher_features", "teacher_stages", "noise", "uniform")
STAGES = (MapShape(5, 8, 8), MapShape(6, 4, 4))
TEACHER_STAGES = (MapShape(7, 6, 6), MapShape(8, 4, 4))
"""Maps after each stage of the networks, which differ in width and some in size."""


def choices(method: ModuleType) -> Iterator[dict[str, Any]]:
    """Yield every combination of the parameters that are a choice among names; the defaults, if there is none."""
    fields = method.Params.model_fields
    named = {key: get_args(field.annotation) for key, field in fields.items() if get_origin(field.annotation) is Literal}
    for values in itertools.product(*named.values()):
        yield dict(zip(named, values, strict=True))


def random_inputs(
    method: ModuleType,
    params: dict[str, Any],
    num_steps: int = 4,
    *,
    largest: float = 2.0,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> MethodInputs:
    """Return a batch with no more in it than a method declares: T steps, B=4, C=5, E=3 exits, D=6 maps of 4x4, two stages.

    Args:
        method: module of the method.
        params: its parameters.
        num_steps: T.
        largest: bound of the absolute values of logits.
        dtype: of all floats.
        seed: of the random values.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return largest * (2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1)

    fields = {"logits": uniform(num_steps, 4, 5), "teacher_logits": uniform(4, 5), "exits": uniform(3, 4, 5)}
    fields["features"] = (uniform(num_steps, 4, 6, 4, 4) > 0).double()
    fields["teacher_features"] = uniform(4, 8, 4, 4).relu()
    fields["teacher_weight"] = uniform(5, 8)
    fields["noise"] = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    fields["uniform"] = torch.rand(4, TEACHER_STAGES[-1].channels, generator=generator, dtype=torch.float64)
    needs = method.needs(method.Params(**params))
    declared = {"logits", *needs} | ({"teacher_logits"} if "teacher" in needs else set())
    declared |= {"teacher_features", "teacher_weight"} if {"features", "teacher"} <= needs else set()
    given: dict[str, Any] = {name: value.to(dtype) for name, value in fields.items() if name in declared}
    if needs & {"stages", "last_stage"}:
        kept = slice(None) if "stages" in needs else slice(-1, None)
        spikes = [torch.rand(num_steps, 4, *shape, generator=generator, dtype=torch.float64) > 0.5 for shape in STAGES]
        maps = [4 * torch.rand(4, *shape, generator=generator, dtype=torch.float64) - 2 for shape in TEACHER_STAGES]
        given["stages"] = tuple(each.to(dtype) for each in spikes[kept])
        given["teacher_stages"] = tuple(each.relu().to(dtype) for each in maps[kept]) if "teacher" in needs else None
    parts = built_parts(method, params, num_steps, seed)
    if parts is not None:
        _change_parts(parts, lambda value: value.to(at_least_float32(dtype)))
    return MethodInputs(labels=torch.tensor([0, 1, 2, 4]), parts=parts, **given)


def built_parts(method: ModuleType, params: dict[str, Any], num_steps: int = 4, seed: int = 0) -> nn.Module | None:
    """Return the parts that a method trains along with the student, for the stages of `random_inputs`; None without any."""
    if not hasattr(method, "build"):
        return None
    settings = method.Params(**params)
    with_teacher = "teacher" in method.needs(settings)
    shapes = Shapes(STAGES, TEACHER_STAGES if with_teacher else (), time_steps=num_steps, num_classes=5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = method.build(settings, shapes)
    require(isinstance(parts, nn.Module), f"build returns a torch.nn.Module; found {parts!r:.80}")
    return parts


def changed(inputs: MethodInputs, change: Callable[[Tensor], Tensor]) -> MethodInputs:
    """Return the inputs with every tensor of floating point changed, those of a copy of the parts as well."""
    values = {name: value for name, value in tensors_of(inputs).items() if name != "labels"}
    parts = copy.deepcopy(inputs.parts)
    if parts is not None:
        _change_parts(parts, change)
    return dataclasses.replace(inputs, parts=parts, **each_changed(change, values))


def _change_parts(parts: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
    """Change every tensor of a module, also to another class of tensors, which `Module._apply` cannot."""
    for module in parts.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(change(parameter.detach())))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, change(buffer) if buffer.is_floating_point() else buffer)


def learners_of(inputs: MethodInputs) -> dict[str, Tensor]:
    """Return the student's tensors that a method has to train, with gradients enabled."""
    names = ["exits" if inputs.exits is not None else "logits", *(["features"] if inputs.features is not None else [])]
    stages = {f"stage {i}": stage.requires_grad_() for i, stage in enumerate(inputs.stages or ())}
    return {name: getattr(inputs, name).requires_grad_() for name in names} | stages


def tensors_of(inputs: MethodInputs) -> dict[str, Any]:
    """Return the fields that are tensors, or tuples of tensors."""
    fields = {field.name: getattr(inputs, field.name) for field in dataclasses.fields(inputs)}
    return {name: value for name, value in fields.items() if isinstance(value, Tensor | tuple)}


def each_changed(change: Callable[[Tensor], Tensor], values: dict[str, Any]) -> dict[str, Any]:
    """Change tensors, and each tensor of tuples."""
    return {key: tuple(map(change, value)) if isinstance(value, tuple) else change(value) for key, value in values.items()}


def _all_right(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.scatter(-1, labels.expand(len(logits), -1)[..., None], 99.0)


def _all_wrong(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.scatter(-1, labels.expand(len(logits), -1)[..., None], -99.0)


def _all_equal(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.zeros_like(logits)


SITUATIONS = {"all right": _all_right, "all wrong": _all_wrong, "all equal": _all_equal}
