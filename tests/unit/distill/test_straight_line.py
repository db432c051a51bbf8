"""One step of every method: the library's terms are those of the equations written out in straight_line.py."""

import dataclasses

import pytest
import torch

from spikedistill import components
from spikedistill.contract.batches import random_inputs
from spikedistill.contract.training import SHAPES, TIME_STEPS, batch_of, networks_of, spec_of
from spikedistill.stages.distill import Distillation
from spikedistill.train.step.draws import Draws
from tests.unit.distill import straight_line, straight_line_maps
from tests.unit.distill.batches import with_every_choice

LOSSES = straight_line.LOSSES | straight_line_maps.LOSSES


def as_lists(values):
    lists = {name: value.tolist() for name, value in values.items() if isinstance(value, torch.Tensor)}
    lists |= {name: [each.tolist() for each in value] for name, value in values.items() if isinstance(value, tuple)}
    if values.get("parts") is not None:
        lists["parts"] = as_lists(values["parts"].state_dict())
    return lists


def test_the_methods_that_come_with_the_library_are_written_out():
    assert set(LOSSES) >= {"ce", "tet", "kd", "tdd", "sealkd", "ckdsnn", "esd", "fitnet", "bkdsnn", "kdsnn"}


WRITTEN_OUT = [choice for choice in with_every_choice() if choice.values[0] in LOSSES]


@pytest.mark.parametrize(("name", "params"), WRITTEN_OUT)
@pytest.mark.parametrize("num_steps", [1, 4])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_terms_of_fixed_logits_equal_the_equations(name, params, num_steps, seed):
    method = components.load("distill", name)
    inputs = random_inputs(method, params, num_steps, dtype=torch.float64, seed=seed)
    settings = method.Params(**params)
    terms = {key: term.item() for key, term in method.loss(inputs, settings).items()}
    batch = as_lists({field.name: getattr(inputs, field.name) for field in dataclasses.fields(inputs)})
    assert terms == pytest.approx(LOSSES[name](batch, settings.model_dump()), rel=0, abs=1e-9)


def with_every_backward():
    for choice in WRITTEN_OUT:
        name, params = choice.values
        method = components.load("distill", name)
        yield pytest.param(name, params, "bptt", id=f"{choice.id}-bptt")
        if "steps" not in method.needs(method.Params(**params)):
            yield pytest.param(name, params, "rate", id=f"{choice.id}-rate")


@pytest.mark.parametrize("dataset", SHAPES)
@pytest.mark.parametrize(("name", "params", "backward"), list(with_every_backward()))
def test_terms_of_fixed_weights_and_a_fixed_batch_equal_the_equations(name, params, backward, dataset, monkeypatch):
    spec = spec_of(name, params, dataset=dataset, backward=backward)
    student, teacher = (network and network.double() for network in networks_of(spec))
    batch = batch_of(spec, torch.float64)
    outputs = student(batch.inputs)
    labels = (outputs.prediction.argmax(-1) + torch.tensor([0, 1, 0, 1, 0])) % 10  # some samples are right
    draws = []
    monkeypatch.setattr(Draws, "get", recorded(Draws.get, draws))
    terms = Distillation(spec, teacher, student)(outputs, dataclasses.replace(batch, labels=labels))
    values = {"logits": outputs.logits, "labels": labels, "exits": outputs.exits, "parts": student.parts}
    values |= dict.fromkeys(("noise", "uniform"), next(iter(draws), None))
    # with rate-based backpropagation there is one row, the mean over time: as if every step were that
    values["features"] = outputs.features.repeat(TIME_STEPS // len(outputs.features), 1, 1, 1, 1)
    values["stages"] = outputs.stages or (outputs.features,)
    if teacher:
        taught = teacher(batch.inputs, returns_stages=True)
        values |= {"teacher_logits": taught.logits, "teacher_features": taught.features}
        values["teacher_weight"] = teacher.network.classifier.weight
        values["teacher_stages"] = taught.stages if outputs.stages else (taught.features,)
    expected = LOSSES[name](as_lists(values), spec.params)
    assert {key: term.item() for key, term in terms.items()} == pytest.approx(expected, rel=0, abs=1e-9)


def recorded(function, calls):
    def call(*args, **kwargs):
        calls.append(function(*args, **kwargs))
        return calls[-1]

    return call
