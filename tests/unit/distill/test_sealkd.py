"""SeAl-KD: what an error changes, and what a step learns from the others."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikedistill.distill import kd, sealkd, tet

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "seal_sta.json").read_text())["cases"]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_alignment_of_steps_that_are_right_is_distillation():
    logits, teacher = draw(3, 4, 5), draw(4, 5, seed=1)
    labels = torch.tensor([0, 1, 2, 3])
    logits[:, torch.arange(4), labels] = 9.0
    assert sealkd.error_aware_alignment(logits, teacher, labels, 3.0) == kd.per_step_kd(logits, teacher, 3.0)


def test_alignment_of_an_error_in_numbers():
    # step 2, sample 0 of the worked example: s = [0.2, 0.2, 0.4], a' = [0, 0, -1]
    logits = torch.tensor([[[0.2, 1.5, 0.4]]], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[3.0, 0.0, -1.0]], dtype=torch.float64)
    loss = sealkd.error_aware_alignment(logits, teacher, torch.tensor([0]), 3.0)
    equalised = torch.tensor([[0.2, 0.2, 0.4]], dtype=torch.float64), torch.tensor([[0.0, 0.0, -1.0]], dtype=torch.float64)
    assert loss == kd.kd_divergence(*equalised, 3.0)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient[0, 0, 1] == 0
    assert gradient[0, 0, 0] == pytest.approx(-float(gradient[0, 0, 2]))


def test_gradient_of_the_error_aware_alignment():
    logits, teacher, labels = draw(3, 4, 5).requires_grad_(), draw(4, 5, seed=1), torch.tensor([0, 1, 2, 3])
    wrong = logits.argmax(-1) != labels
    assert wrong.any() and not wrong.all()
    assert torch.autograd.gradcheck(lambda z: sealkd.error_aware_alignment(z, teacher, labels, 3.0), logits)


@given(st.integers(0, 10_000))
def test_the_class_that_is_wrongly_predicted_gets_no_gradient_from_the_teacher(seed):
    logits, labels = draw(3, 4, 5, seed=seed).requires_grad_(), torch.tensor([0, 1, 2, 3])
    (gradient,) = torch.autograd.grad(sealkd.error_aware_alignment(logits, draw(4, 5, seed=1), labels, 3.0), logits)
    predicted = logits.argmax(-1)
    of_predicted = gradient.gather(-1, predicted[..., None])[..., 0]
    assert of_predicted[predicted != labels].eq(0).all()
    assert of_predicted[predicted == labels].ne(0).all()


def test_two_steps_learn_from_each_other():
    logits = draw(2, 3, 5)
    assert torch.equal(sealkd.temporal_targets(logits), logits.flip(0))


@pytest.mark.parametrize("case", [case for case in GOLDEN if "weights_ijb" in case["expected"]], ids=lambda case: case["name"])
def test_targets_are_the_weighted_logits_of_the_other_steps(case):
    logits = torch.tensor(case["inputs"]["student_logits"], dtype=torch.float64)
    weights = torch.tensor(case["expected"]["weights_ijb"], dtype=torch.float64)
    expected = torch.einsum("ijb,jbc->ibc", weights, logits)
    torch.testing.assert_close(sealkd.temporal_targets(logits), expected, rtol=0, atol=1e-9)


def test_gradient_of_the_temporal_alignment_is_that_of_distillation_from_constant_targets():
    logits = draw(4, 3, 5).requires_grad_()
    targets = sealkd.temporal_targets(logits)
    assert not targets.requires_grad
    assert torch.autograd.gradcheck(lambda z: kd.kd_divergence(z, targets, 3.0), logits)
    losses = sealkd.temporal_alignment(logits, 3.0), kd.kd_divergence(logits, targets, 3.0)
    ours, expected = (torch.autograd.grad(loss, logits)[0] for loss in losses)
    assert torch.equal(ours, expected)


@given(st.permutations(range(4)), st.integers(0, 100))
def test_the_order_of_the_steps_does_not_matter(order, seed):
    logits = draw(4, 3, 5, seed=seed)
    torch.testing.assert_close(sealkd.temporal_targets(logits[list(order)]), sealkd.temporal_targets(logits)[list(order)])


@given(st.integers(0, 100))
def test_targets_lie_between_the_other_steps(seed):
    logits = draw(4, 3, 5, seed=seed)
    for step, target in enumerate(sealkd.temporal_targets(logits)):
        others = torch.cat([logits[:step], logits[step + 1 :]])
        assert (target >= others.amin(0) - 1e-9).all() and (target <= others.amax(0) + 1e-9).all()


@pytest.mark.parametrize("logits", [draw(1, 3, 5), draw(1, 3, 5).repeat(4, 1, 1)], ids=["one step", "equal steps"])
def test_nothing_is_learnt_without_another_step_that_differs(logits):
    logits = logits.requires_grad_()
    loss = sealkd.temporal_alignment(logits, 3.0)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.abs() < 1e-12 and gradient.abs().max() < 1e-12


def test_without_weights_it_is_tet():
    logits, teacher, labels = draw(4, 3, 5), draw(3, 5, seed=1), torch.tensor([0, 1, 2])
    loss = sealkd.sealkd_loss(logits, teacher, labels, alpha=0.0, beta=0.0, temperature=3.0)
    assert loss == tet.per_step_cross_entropy(logits, labels)


@pytest.mark.parametrize("wrong", [{"alpha": -1}, {"beta": -0.1}, {"temperature": 0}, {"margin": 1}])
def test_parameters_outside_their_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        sealkd.Params(**wrong)
