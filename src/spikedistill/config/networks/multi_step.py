"""Checks of students that run all time steps at once, as SpikingJelly's models do. Imports no torch.

The entry of such an architecture has `multi_step: True`, and may say what it needs: `size`, the only side of its inputs;
`min_time_steps`; `classes`, the only number of classes. `features: True` says that it offers the maps after its last stage.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spikedistill import components
from spikedistill.config.models import ExperimentConfig, StudentConfig
from spikedistill.config.networks.imported import Problem
from spikedistill.data.meta import DatasetMeta

OTHERS = "an architecture of spikedistill, such as sew_resnet18, has them"


def multi_step_misfits(needs: frozenset[str], student: StudentConfig) -> Iterator[str]:
    """Yield the reasons why a method cannot train such a student; none for other students."""
    entry = _entry(student)
    if entry is None:
        return
    if "exits" in needs:
        yield f"needs side branches, which {student.arch!r} has no stages for: {OTHERS}; or use another method, such as tet or kd"
    if needs & {"features", "stages", "last_stage"} and not entry.get("features"):
        yield f"compares maps, and {student.arch!r} does not offer its own: {OTHERS}; or use another method, such as tet or kd"


def multi_step_problems(experiment: ExperimentConfig, meta: DatasetMeta) -> Iterator[Problem]:
    """Yield what is wrong with networks of an experiment that run all time steps at once."""
    teacher, student = experiment.teacher, experiment.student
    if teacher is not None and components.architecture(teacher.arch).entry.get("multi_step"):
        yield ("teacher", "arch"), f"{teacher.arch!r} is an SNN, for students; `spikedistill list architectures` has others"
    entry = _entry(student)
    if entry is None:
        return
    if student.backward == "rate":
        reason = f"rate needs layers of spikedistill, and {student.arch!r} has its own; set it to bptt"
        yield ("student", "backward"), reason
    if "/" in student.arch and student.width != 1:
        yield ("student", "width"), f"is for architectures of spikedistill; the width of {student.arch!r} is fixed"
    yield from _shape_problems(experiment, entry, meta)


def _shape_problems(experiment: ExperimentConfig, entry: dict[str, Any], meta: DatasetMeta) -> Iterator[Problem]:
    student = experiment.student
    size = experiment.dataset.inputs.size(meta.height, meta.width)
    if (side := entry.get("size")) is not None and size != (side, side):
        yield (
            ("student", "arch"),
            f"{student.arch!r} takes inputs of {side}x{side} only, and gets {size[0]}x{size[1]}: resize them with "
            f"dataset.inputs.resize: {{size: {side}, antialias: true}}, or choose another",
        )
    if student.time_steps < (least := entry.get("min_time_steps", 1)):
        yield ("student", "time_steps"), f"{student.arch!r} needs at least {least}; found {student.time_steps}"
    if meta.num_classes != (classes := entry.get("classes", meta.num_classes)):
        yield (
            ("student", "arch"),
            f"{student.arch!r} is for {classes} classes only, and the dataset has {meta.num_classes}: choose another",
        )


def _entry(student: StudentConfig) -> dict[str, Any] | None:
    """Return the entry of a student that runs all time steps at once, None for others."""
    entry = components.architecture(student.arch).entry
    return entry if entry.get("multi_step") else None
