"""What every method of distill/ promises; a new file is tested the moment it exists."""

import dataclasses
import subprocess
import sys

import pytest
import torch

from spikedistill import components
from spikedistill.components import ComponentParams
from spikedistill.distill.forward import Forward

METHODS = components.names("distill")


def forward_of(num_steps, *, needs_teacher):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_steps, 4, 5, generator=generator).requires_grad_()
    teacher = torch.randn(4, 5, generator=generator) if needs_teacher else None
    return Forward(logits, torch.tensor([0, 1, 2, 4]), teacher)


def test_the_methods_are_found():
    assert {"ce", "tet", "kd"} <= set(METHODS)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("num_steps", [1, 4])
def test_terms_are_finite_scalars_and_reach_every_step(name, num_steps):
    method = components.load("distill", name)
    forward = forward_of(num_steps, needs_teacher=method.NEEDS_TEACHER)
    terms = method.loss(forward, method.Params())
    assert terms and all(term.shape == () and term.dtype == torch.float32 for term in terms.values())
    sum(terms.values()).backward()
    assert forward.logits.grad.isfinite().all()
    assert (forward.logits.grad.abs().sum((1, 2)) > 0).all()


@pytest.mark.parametrize("name", METHODS)
def test_the_order_of_samples_does_not_matter(name):
    method = components.load("distill", name)
    forward = forward_of(3, needs_teacher=method.NEEDS_TEACHER)
    order = torch.tensor([2, 0, 3, 1])
    teacher = None if forward.teacher_logits is None else forward.teacher_logits[order]
    shuffled = dataclasses.replace(forward, logits=forward.logits[:, order], labels=forward.labels[order], teacher_logits=teacher)
    ours, theirs = method.loss(forward, method.Params()), method.loss(shuffled, method.Params())
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", METHODS)
def test_method_is_described(name):
    method = components.load("distill", name)
    assert isinstance(method.NEEDS_TEACHER, bool)
    assert method.__doc__.splitlines()[0].endswith(".")
    assert issubclass(method.Params, ComponentParams)
    assert all(field.description for field in method.Params.model_fields.values())


def test_importing_methods_and_settings_does_not_import_torch():
    names = [f"spikedistill.distill.{components.stem(name)}" for name in METHODS]
    modules = [*names, "spikedistill.neurons.settings", "spikedistill.train.settings"]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
