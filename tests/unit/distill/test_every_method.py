"""What every method of distill/ promises; a new file is tested the moment it exists."""

import dataclasses
import subprocess
import sys
from typing import get_args

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from spikedistill import components
from spikedistill.components import ComponentParams
from spikedistill.distill.method_inputs import Need
from tests.unit.distill.batches import METHODS, changed, every_choice, inputs_of

STUDENT = ("logits", "exits", "features")  # what has a gradient
BATCH_FIRST = ("labels", "teacher_logits", "teacher_features", "noise")


def learners_of(inputs):
    """The student's tensors that the method is to move, with gradients on."""
    names = ["exits"] if inputs.exits is not None else ["logits"]
    names += ["features"] if inputs.features is not None else []
    return {name: getattr(inputs, name).requires_grad_() for name in names}


def total(method, inputs, params):
    return torch.stack(list(method.loss(inputs, method.Params(**params)).values())).sum()


def test_the_methods_are_found():
    assert set(METHODS) >= {"ce", "tet", "kd", "tdd", "sealkd", "ckdsnn", "esd"}


@every_choice
@pytest.mark.parametrize("num_steps", [1, 4])
def test_terms_are_finite_scalars_and_reach_every_step(name, params, num_steps):
    method = components.load("distill", name)
    inputs = inputs_of(method, params, num_steps)
    learners = learners_of(inputs)
    terms = method.loss(inputs, method.Params(**params))
    assert terms and all(term.shape == () and term.dtype == torch.float32 for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    for learner in learners.values():
        assert learner.grad.isfinite().all()
        assert (learner.grad.abs().flatten(1).sum(1) > 0).all()


@every_choice
def test_the_order_of_samples_does_not_matter(name, params):
    method = components.load("distill", name)
    inputs = inputs_of(method, params)
    order = torch.tensor([2, 0, 3, 1])
    ordered = {key: getattr(inputs, key)[order] for key in BATCH_FIRST if getattr(inputs, key) is not None}
    ordered |= {key: getattr(inputs, key)[:, order] for key in STUDENT if getattr(inputs, key) is not None}
    torch.testing.assert_close(total(method, dataclasses.replace(inputs, **ordered), params), total(method, inputs, params))


def all_right(logits, labels):
    return logits.scatter(-1, labels.expand(len(logits), -1)[..., None], 99.0)


def all_wrong(logits, labels):
    return logits.scatter(-1, labels.expand(len(logits), -1)[..., None], -99.0)


def all_equal(logits, labels):
    return torch.zeros_like(logits)


@every_choice
@pytest.mark.parametrize("num_steps", [1, 4])
@pytest.mark.parametrize("situation", [all_right, all_wrong, all_equal])
def test_empty_sets_give_finite_losses_and_gradients(name, params, situation, num_steps):
    method = components.load("distill", name)
    inputs = inputs_of(method, params, num_steps)
    given = {field.name: getattr(inputs, field.name) for field in dataclasses.fields(inputs)}
    extreme = {key: situation(given[key], inputs.labels) for key in ("logits", "exits") if given[key] is not None}
    if situation is all_equal:
        silent = [key for key in ("features", "teacher_features") if given[key] is not None]
        extreme |= {key: torch.zeros_like(given[key]) for key in silent}
    inputs = dataclasses.replace(inputs, **extreme)
    learners = learners_of(inputs)
    loss = total(method, inputs, params)
    loss.backward()
    assert loss.isfinite()
    assert all(learner.grad.isfinite().all() for learner in learners.values())


@every_choice
def test_autocast_changes_nothing(name, params):
    method = components.load("distill", name)
    inputs = inputs_of(method, params)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = total(method, inputs, params)
    assert autocast.dtype == torch.float32
    assert autocast.item() == total(method, inputs, params).item()


@every_choice
@pytest.mark.parametrize("seed", range(5))
def test_half_precision_logits_up_to_50_stay_within_a_thousandth_of_float64(name, params, seed):
    method = components.load("distill", name)
    half = inputs_of(method, params, largest=50.0, dtype=torch.bfloat16, seed=seed)
    with torch.autocast("cpu", torch.bfloat16):
        actual = total(method, half, params)
    expected = total(method, changed(half, lambda value: value.double()), params)
    assert (actual.dtype, expected.dtype) == (torch.float32, torch.float64)
    assert actual.item() == pytest.approx(expected.item(), rel=0, abs=1e-3)


@every_choice
def test_the_host_never_waits_for_the_device(name, params):
    """Values cannot be read under FakeTensorMode: .item(), an `if` on a tensor or indexing with a mask raises there."""
    method = components.load("distill", name)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        inputs = changed(inputs_of(method, params), mode.from_tensor)
        inputs = dataclasses.replace(inputs, labels=mode.from_tensor(inputs.labels))
        learners = learners_of(inputs)
        total(method, inputs, params).backward()
        assert all(learner.grad.shape == learner.shape for learner in learners.values())


@every_choice
def test_no_gradient_flows_into_the_teacher(name, params):
    method = components.load("distill", name)
    inputs = inputs_of(method, params)
    learners_of(inputs)
    teachers = [getattr(inputs, key) for key in ("teacher_logits", "teacher_features", "teacher_weight")]
    teachers = [teacher.requires_grad_() for teacher in teachers if teacher is not None]
    total(method, inputs, params).backward()
    assert all(teacher.grad is None for teacher in teachers)


@pytest.mark.parametrize("name", METHODS)
def test_method_is_described(name):
    method = components.load("distill", name)
    assert method.needs(method.Params()) <= set(get_args(Need))
    assert method.__doc__.splitlines()[0].endswith(".")
    assert issubclass(method.Params, ComponentParams)
    assert all(field.description for field in method.Params.model_fields.values())


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize("name", METHODS)
def test_numbers_that_are_not_finite_are_refused(name, value):
    model = components.load("distill", name).Params
    for key, field in model.model_fields.items():
        if field.annotation is float:
            with pytest.raises(ValueError, match=rf"{key}\n  Input should be"):
                model(**{key: value})


def test_importing_methods_and_settings_does_not_import_torch():
    names = [components.module_of("distill", name) for name in METHODS]
    modules = [*names, "spikedistill.neurons.settings", "spikedistill.train.settings"]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
