"""Cross-entropies and distillation from a teacher: closed forms, gradients, invariances."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikedistill.distill import ce, kd, tet
from spikedistill.distill.method_inputs import MethodInputs

LABELS = torch.tensor([0, 2])


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_cross_entropy_in_closed_form_for_two_classes():
    logits = tensor([[[0.0, 0.0]], [[math.log(3.0), 0.0]]])  # probabilities of class 0: 1/2, then 3/4
    label = torch.tensor([0])
    assert tet.per_step_cross_entropy(logits, label).item() == pytest.approx(-(math.log(1 / 2) + math.log(3 / 4)) / 2)
    assert ce.mean_cross_entropy(logits, label).item() == pytest.approx(math.log(1 + 3**-0.5))


@pytest.mark.parametrize("function", [ce.mean_cross_entropy, tet.per_step_cross_entropy])
def test_gradient_of_the_cross_entropies(function):
    assert torch.autograd.gradcheck(lambda z: function(z, LABELS), draw(3, 2, 4).requires_grad_())


@pytest.mark.parametrize("function", [kd.per_step_kd, kd.mean_kd])
def test_the_teacher_gets_no_gradient(function):
    student, teacher = draw(3, 2, 4).requires_grad_(), draw(2, 4, seed=1).requires_grad_()
    function(student, teacher, 3.0).backward()
    assert student.grad.any()
    assert teacher.grad is None


def test_terms_of_every_step_ask_for_every_step():
    assert kd.needs(kd.Params(logits="per_step")) == {"teacher", "steps"}
    assert kd.needs(kd.Params(logits="mean")) == {"teacher"}


@pytest.mark.parametrize("function", [kd.per_step_kd, kd.mean_kd])
def test_gradient_of_distillation(function):
    assert torch.autograd.gradcheck(lambda z: function(z, draw(2, 4, seed=1), 3.0), draw(3, 2, 4).requires_grad_())


def test_divergence_in_closed_form_for_two_classes():
    # teacher (3/4, 1/4), student (1/2, 1/2), temperature 1
    teacher = tensor([[math.log(3.0), 0.0]])
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert kd.kd_divergence(tensor([[0.0, 0.0]]), teacher, 1.0).item() == pytest.approx(expected, abs=1e-12)


logit_rows = st.lists(st.lists(st.floats(-50, 50), min_size=5, max_size=5), min_size=3, max_size=3)
temperatures = st.floats(0.5, 8.0)


@given(logit_rows, logit_rows, temperatures)
def test_divergence_is_never_negative(student, teacher, temperature):
    assert kd.divergences(tensor(student), tensor(teacher), temperature).min() >= -1e-9


@given(logit_rows, temperatures, st.floats(-50, 50))
def test_divergence_is_zero_where_both_agree_up_to_a_shift(student, temperature, shift):
    assert kd.divergences(tensor(student), tensor(student) + shift, temperature).abs().max() < 1e-9


@given(logit_rows, logit_rows, temperatures)
def test_divergence_depends_on_logits_over_temperature_alone(student, teacher, temperature):
    scaled = kd.kd_divergence(tensor(student) / temperature, tensor(teacher) / temperature, 1.0)
    torch.testing.assert_close(kd.kd_divergence(tensor(student), tensor(teacher), temperature), temperature**2 * scaled)


def test_one_step_makes_mean_and_per_step_losses_equal():
    logits, teacher = draw(1, 2, 4), draw(2, 4, seed=1)
    assert ce.mean_cross_entropy(logits, LABELS) == tet.per_step_cross_entropy(logits, LABELS)
    assert kd.per_step_kd(logits, teacher, 3.0) == kd.mean_kd(logits, teacher, 3.0)


def test_per_step_distillation_is_the_mean_over_steps():
    logits, teacher = draw(3, 2, 4), draw(2, 4, seed=1)
    each = torch.stack([kd.kd_divergence(step, teacher, 3.0) for step in logits])
    torch.testing.assert_close(kd.per_step_kd(logits, teacher, 3.0), each.mean())


@pytest.mark.parametrize("which", ["per_step", "mean"])
def test_cross_entropy_is_of_the_logits_that_distil(which):
    logits, teacher = draw(3, 2, 4), draw(2, 4, seed=1)
    terms = kd.loss(MethodInputs(logits, LABELS, teacher), kd.Params(alpha=0.5, logits=which))
    hard = {"per_step": tet.per_step_cross_entropy, "mean": ce.mean_cross_entropy}[which]
    soft = {"per_step": kd.per_step_kd, "mean": kd.mean_kd}[which]
    assert terms == {"ce": hard(logits, LABELS), "kd": 0.5 * soft(logits, teacher, 3.0)}


@pytest.mark.parametrize("wrong", [{"alpha": -0.1}, {"temperature": 0.0}, {"tau": 1.0}, {"logits": "last"}])
def test_parameters_outside_their_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        kd.Params(**wrong)
