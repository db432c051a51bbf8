"""What a method promises in training: one step with real networks, on images and on event frames, in every backward mode."""

from __future__ import annotations

import itertools
from typing import Any, Literal

import torch

from spikedistill import components
from spikedistill.config.check import parse_config
from spikedistill.contract.findings import require
from spikedistill.models import Student, Teacher, build_teacher
from spikedistill.models.settings import Backward
from spikedistill.plan.build import build_plan
from spikedistill.plan.stages import DistillSpec
from spikedistill.plugins import named
from spikedistill.stages.distill import Distillation, build_student_of
from spikedistill.stages.imports import DataFacts
from spikedistill.stages.method_parts import add_parts
from spikedistill.train.engine import Batch
from spikedistill.train.optim import build_optimizer

TIME_STEPS = 3
SHAPES = {"digits": (5, 1, 8, 8), "digits-dvs": (TIME_STEPS, 5, 2, 8, 8)}
"""Five images; the frames of five recordings."""
BACKWARDS: tuple[Backward, ...] = ("bptt", "rate")


def configuration(
    name: str, params: dict[str, Any], *, dataset: str, backward: Backward, student: str = "resnet8", teacher: str = "resnet8"
) -> dict[str, Any]:
    """Return an experiment with one method, and with a threshold so low that the neurons of untrained networks fire."""
    train = {"epochs": 1, "batch_size": 5}
    experiment = {
        "dataset": {"name": dataset, "params": {"num_frames": TIME_STEPS} if dataset == "digits-dvs" else {}},
        "teacher": {"arch": teacher, "train": train},
        "student": {
            "arch": student, "time_steps": TIME_STEPS, "neuron": {"threshold": 0.3}, "backward": backward, "train": train
        },
        "methods": {name: {"params": params}},
    }  # fmt: skip
    return {"plugins": named(), "seeds": [7], "experiments": {"one": experiment}}


def spec_of(name: str, params: dict[str, Any], **choices: Any) -> DistillSpec:
    """Return the spec of the student.

    Raises:
        ConfigError: as `spikedistill` does for such a configuration.
    """
    plan = build_plan(parse_config(configuration(name, params, **choices)))
    return next(spec for spec in plan.stages.values() if isinstance(spec, DistillSpec))


def networks_of(spec: DistillSpec) -> tuple[Student, Teacher | None]:
    """Return the student and its parts as stage `distill` makes them, and a teacher as it reads it, None for a method without."""
    torch.manual_seed(spec.seed)
    kind: Literal["images", "frames"] = "frames" if len(SHAPES[spec.dataset]) == 5 else "images"
    data = DataFacts(kind, num_classes=10, channels=SHAPES[spec.dataset][-3], statistics=None)
    student = build_student_of(spec, data)
    teacher = build_teacher(spec.arch, num_classes=data.num_classes, in_channels=data.channels)
    method = components.load("distill", spec.method)
    with_teacher = "teacher" in method.needs(method.Params(**spec.params))
    taught_by = teacher.requires_grad_(False).eval() if with_teacher else None
    inputs = batch_of(spec).inputs
    add_parts(student, taught_by, spec, inputs[:1] if inputs.dim() == 4 else inputs[:, :1])
    return student, taught_by


def batch_of(spec: DistillSpec, dtype: torch.dtype = torch.float32) -> Batch:
    """Return random images or frames of the spec's dataset."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(SHAPES[spec.dataset], generator=generator, dtype=torch.float64).to(dtype)
    return Batch(inputs, torch.arange(5), epoch=2, step=1, first=0, global_size=5)


def one_step_changes_the_student_alone(name: str, params: dict[str, Any], dataset: str, backward: Backward) -> None:
    """All parameters get a finite gradient, first and last layers and parts change, and the teacher stays as it was."""
    spec = spec_of(name, params, dataset=dataset, backward=backward)
    student, teacher = networks_of(spec)
    taught_before = [value.clone() for value in teacher.state_dict().values()] if teacher else []
    before = {key: value.detach().clone() for key, value in student.named_parameters()}
    batch = batch_of(spec)
    assert spec.train is not None
    optimizer = build_optimizer(student, spec.train)
    terms = Distillation(spec, teacher, student)(student.train()(batch.inputs).in_full_precision(), batch)
    torch.stack(list(terms.values())).sum().backward()
    optimizer.step()

    where = f"{dataset}, backward: {backward}"
    require(all(term.shape == () and term.isfinite() for term in terms.values()), f"{where}: terms are finite scalars")
    for key, parameter in student.named_parameters():
        require(
            parameter.grad is not None, f"{where}: {key} takes no part in the loss, which several processes cannot train with"
        )
        assert parameter.grad is not None
        require(parameter.grad.isfinite().all() and parameter.isfinite().all(), f"{where}: {key} and its gradient stay finite")
    learners = [key for key in before if key.startswith(("network.stem", "network.classifier", "exits.classifiers", "parts."))]
    same = [key for key in learners if torch.equal(before[key], student.get_parameter(key))]
    require(len(learners) >= 3 and not same, f"{where}: a step changes the student; unchanged: {', '.join(same)}")
    if teacher:
        require(all(p.grad is None for p in teacher.parameters()), f"{where}: the teacher gets no gradient")
        now = teacher.state_dict().values()
        require(all(map(torch.equal, taught_before, now)), f"{where}: the teacher stays as it was")


def trains_on_every_kind_of_data(name: str, params: dict[str, Any]) -> None:
    """One step changes the student, and it alone, wherever a configuration may use the method."""
    method = components.load("distill", name)
    for dataset, backward in itertools.product(SHAPES, BACKWARDS):
        if backward == "bptt" or "steps" not in method.needs(method.Params(**params)):
            one_step_changes_the_student_alone(name, params, dataset, backward)
