"""Every method on every kind of data with every backward mode: one step of training, or a refusal that says why.

A new file in distill/ is tested here the moment it exists, and so is a new architecture.
"""

import dataclasses
import itertools

import pytest
import torch

from spikedistill import components
from spikedistill.config.check import parse_config
from spikedistill.contract.training import (
    BACKWARDS,
    SHAPES,
    batch_of,
    configuration,
    networks_of,
    one_step_changes_the_student_alone,
    spec_of,
)
from spikedistill.errors import ConfigError
from spikedistill.models import build_teacher
from spikedistill.stages.distill import Distillation
from tests.unit.distill.batches import METHODS, with_every_choice


def needs_of(name, params):
    method = components.load("distill", name)
    return method.needs(method.Params(**params))


def combinations(*, refused):
    for choice, dataset, backward in itertools.product(with_every_choice(), SHAPES, BACKWARDS):
        name, params = choice.values
        if refused == (backward == "rate" and "steps" in needs_of(name, params)):
            yield pytest.param(name, params, dataset, backward, id=f"{choice.id}-{dataset}-{backward}")


@pytest.mark.parametrize(("name", "params", "dataset", "backward"), list(combinations(refused=False)))
def test_one_step_of_training(name, params, dataset, backward):
    one_step_changes_the_student_alone(name, params, dataset, backward)


RANDOM = [(name, need) for name in METHODS for need in ("noise", "uniform") if need in needs_of(name, {})]


@pytest.mark.parametrize(("name", "need"), RANDOM)
def test_random_numbers_are_those_of_the_sample_s_place_in_the_global_batch_at_this_step_of_this_seed(name, need, monkeypatch):
    spec, seen = spec_of(name, {}, dataset="digits", backward="bptt"), []
    student, teacher = networks_of(spec)
    monkeypatch.setattr(components.load("distill", name), "loss", lambda inputs, params: seen.append(getattr(inputs, need)))

    def draws(first=0, seed=spec.seed, **changes):
        batch = batch_of(spec)
        part = {"inputs": batch.inputs[first:], "labels": batch.labels[first:], "first": first}
        batch = dataclasses.replace(batch, **part, **changes)
        Distillation(spec.model_copy(update={"seed": seed}), teacher)(student(batch.inputs), batch)
        return seen.pop()

    whole = draws()
    assert len(whole) == 5
    assert whole.unique().numel() == whole.numel()
    assert torch.equal(draws(), whole)
    assert torch.equal(draws(first=2), whole[2:])  # the part of another rank
    assert not any(torch.equal(draws(**other), whole) for other in ({"epoch": 1}, {"step": 2}, {"seed": 8}))


@pytest.mark.parametrize(("name", "params", "dataset", "backward"), list(combinations(refused=True)))
def test_a_method_of_single_steps_is_refused_where_only_their_mean_is_trained(name, params, dataset, backward):
    with pytest.raises(ConfigError, match=rf"methods\.{name}: needs the logits of every time step.*set backward to bptt"):
        spec_of(name, params, dataset=dataset, backward=backward)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_learns_from_a_teacher_is_refused_without_one(name):
    values = configuration(name, {}, dataset="digits", backward="bptt")
    del values["experiments"]["one"]["teacher"]
    if "teacher" in needs_of(name, {}):
        with pytest.raises(ConfigError, match=rf"one\.teacher: method '{name}' distils from a teacher, and none is given"):
            parse_config(values)
    else:
        parse_config(values)


@pytest.mark.parametrize("arch", sorted(components.architectures()))
@pytest.mark.parametrize("name", [name for name in METHODS if {"features", "teacher"} <= needs_of(name, {})])
def test_a_teacher_without_a_weight_for_its_features_is_refused(name, arch):
    with torch.device("meta"):
        has_weight = build_teacher(arch, num_classes=10, in_channels=1).network.class_weight is not None
    choices = {"dataset": "digits-dvs", "backward": "bptt", "student": arch, "teacher": arch}
    if has_weight:
        spec_of(name, {}, **choices)
    else:
        with pytest.raises(ConfigError, match=rf"methods\.{name}: needs a teacher that classifies by one linear layer.*{arch}"):
            spec_of(name, {}, **choices)


@pytest.mark.parametrize("residual", [False, True])
def test_side_branches_are_those_of_the_spec_whatever_the_table_says_by_now(residual):
    spec = spec_of("esd", {}, dataset="digits", backward="bptt")
    student, _ = networks_of(spec.model_copy(update={"network": spec.network | {"residual_exits": residual}}))
    assert any("Residual" in type(module).__name__ for module in student.exits.modules()) == residual


@pytest.mark.parametrize("arch", sorted(components.architectures()))
def test_a_network_that_is_too_deep_for_its_inputs_is_refused(arch):
    least = components.architectures()[arch][1].get("min_side", 1)
    with torch.device("meta"):
        teacher = build_teacher(arch, num_classes=10, in_channels=1)
        teacher(torch.empty(2, 1, least, least))
        if least > 1:
            with pytest.raises(RuntimeError, match="too small"):
                teacher(torch.empty(2, 1, least - 1, least - 1))
    values = configuration("kd", {}, dataset="digits", backward="bptt", student=arch, teacher=arch)
    if least > 8:
        reason = f"'{arch}' halves its inputs until nothing is left of 8x8; it needs {least}x{least} or more"
        with pytest.raises(ConfigError, match=rf"student\.arch: {reason}(.*\n)*.*teacher\.arch: {reason}"):
            parse_config(values)
        values["experiments"]["one"]["dataset"]["inputs"] = {"resize": {"size": least, "antialias": True}}
    parse_config(values)
