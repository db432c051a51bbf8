"""One step of every method: the library's terms are those of the equations written out in straight_line.py."""

import dataclasses

import pytest
import torch
from tests.unit.distill.batches import every_choice, forward_of, with_every_choice
from tests.unit.distill.straight_line import LOSSES

from spikedistill import components
from spikedistill.config import parse_config
from spikedistill.models import add_exits, build_student, build_teacher
from spikedistill.plan import DistillSpec, build_plan
from spikedistill.stages.distill import Distillation
from spikedistill.train.engine import Batch


def as_lists(values):
    return {name: value.tolist() for name, value in values.items() if isinstance(value, torch.Tensor)}


@every_choice
@pytest.mark.parametrize("num_steps", [1, 4])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_terms_of_fixed_logits_equal_the_equations(name, params, num_steps, seed):
    method = components.load("distill", name)
    forward = forward_of(method, params, num_steps, dtype=torch.float64, seed=seed)
    settings = method.Params(**params)
    terms = {key: term.item() for key, term in method.loss(forward, settings).items()}
    batch = as_lists({field.name: getattr(forward, field.name) for field in dataclasses.fields(forward)})
    assert terms == pytest.approx(LOSSES[name](batch, settings.model_dump()), rel=0, abs=1e-9)


def spec_of(name, params, backward):
    train = {"epochs": 1, "batch_size": 5}
    experiment = {
        "dataset": {"name": "digits"},
        "teacher": {"arch": "resnet8", "train": train},
        "student": {"arch": "resnet8", "time_steps": 3, "backward": backward, "train": train},
        "methods": {name: {"params": params}},
    }
    plan = build_plan(parse_config({"seeds": [7], "experiments": {"one": experiment}}))
    return next(spec for spec in plan.stages.values() if isinstance(spec, DistillSpec))


def networks_of(spec, settings, backward):
    torch.manual_seed(spec.seed)
    shape = {"num_classes": 10, "in_channels": 1}
    student = build_student(spec.arch, time_steps=3, neuron=spec.neuron, backward=backward, divide_by_steps=False, **shape)
    if "exits" in components.load("distill", spec.method).needs(settings):
        add_exits(student, spec.arch, num_classes=10, pooling=settings.pooling)
    teacher = build_teacher(spec.arch, **shape).requires_grad_(False).eval()
    return student.double(), teacher.double()


def with_every_backward():
    for choice in with_every_choice():
        name, params = choice.values
        method = components.load("distill", name)
        yield pytest.param(name, params, "bptt", id=f"{choice.id}-bptt")
        if "steps" not in method.needs(method.Params(**params)):
            yield pytest.param(name, params, "rate", id=f"{choice.id}-rate")


@pytest.mark.parametrize(("name", "params", "backward"), list(with_every_backward()))
def test_terms_of_fixed_weights_and_a_fixed_batch_equal_the_equations(name, params, backward, monkeypatch):
    method = components.load("distill", name)
    settings = method.Params(**params)
    spec = spec_of(name, params, backward)
    student, teacher = networks_of(spec, settings, backward)
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    outputs, taught = student(images), teacher(images)
    labels = (outputs.prediction.argmax(-1) + torch.tensor([0, 1, 0, 1, 0])) % 10  # some samples are right
    objective = Distillation(spec, teacher if "teacher" in method.needs(settings) else None)
    draws = []
    monkeypatch.setattr(torch, "randn", recorded(torch.randn, draws))
    terms = objective(outputs, Batch(images, labels, epoch=2, step=1, first=0, global_size=5))
    batch = {
        "logits": outputs.logits,
        "labels": labels,
        "teacher_logits": taught.logits,
        "exits": outputs.exits,
        "features": outputs.features,
        "teacher_features": taught.features,
        "teacher_weight": teacher.network.classifier.weight,
        "noise": next(iter(draws), None),
    }
    expected = LOSSES[name](as_lists(batch), settings.model_dump())
    assert {key: term.item() for key, term in terms.items()} == pytest.approx(expected, rel=0, abs=1e-9)


def recorded(function, calls):
    def call(*args, **kwargs):
        calls.append(function(*args, **kwargs))
        return calls[-1]

    return call
