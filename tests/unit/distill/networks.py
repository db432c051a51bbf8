"""A method as a configuration gives it: its spec, real networks, and a batch of their data. T=3, B=5."""

from types import SimpleNamespace

import torch

from spikedistill import components
from spikedistill.config.check import parse_config
from spikedistill.models import build_teacher
from spikedistill.plan.build import build_plan
from spikedistill.plan.stages import DistillSpec
from spikedistill.stages.distill import build_student_of
from spikedistill.train.engine import Batch

TIME_STEPS = 3
SHAPES = {"digits": (5, 1, 8, 8), "digits-dvs": (TIME_STEPS, 5, 2, 8, 8)}  # 5 images; frames of 5 recordings
LABELS = torch.tensor([0, 1, 2, 3, 4])


def configuration(name, params, *, dataset, backward, student="resnet8", teacher="resnet8"):
    """An experiment with one method; a threshold so low that the neurons of untrained networks fire."""
    train = {"epochs": 1, "batch_size": 5}
    experiment = {
        "dataset": {"name": dataset, "params": {"num_frames": TIME_STEPS} if dataset == "digits-dvs" else {}},
        "teacher": {"arch": teacher, "train": train},
        "student": {
            "arch": student, "time_steps": TIME_STEPS, "neuron": {"threshold": 0.3}, "backward": backward, "train": train
        },
        "methods": {name: {"params": params}},
    }  # fmt: skip
    return {"seeds": [7], "experiments": {"one": experiment}}


def spec_of(name, params, **choices):
    """The spec of the student; raises ConfigError as `spikedistill` does."""
    plan = build_plan(parse_config(configuration(name, params, **choices)))
    return next(spec for spec in plan.stages.values() if isinstance(spec, DistillSpec))


def networks_of(spec):
    """The student as stage `distill` makes it, and a teacher as that stage reads it, or None for a method without."""
    torch.manual_seed(spec.seed)
    data = SimpleNamespace(num_classes=10, channels=SHAPES[spec.dataset][-3])
    student = build_student_of(spec, data)
    teacher = build_teacher(spec.arch, num_classes=data.num_classes, in_channels=data.channels)
    method = components.load("distill", spec.method)
    with_teacher = "teacher" in method.needs(method.Params(**spec.params))
    return student, teacher.requires_grad_(False).eval() if with_teacher else None


def batch_of(spec, dtype=torch.float32):
    """Random images or frames of the spec's dataset."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(SHAPES[spec.dataset], generator=generator, dtype=torch.float64).to(dtype)
    return Batch(inputs, LABELS, epoch=2, step=1, first=0, global_size=5)
