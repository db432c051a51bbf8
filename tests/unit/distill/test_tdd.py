"""Temporal decoupling distillation: the student's own target, and its gradient."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikedistill.distill import kd, tdd, tet
from spikedistill.distill.method_inputs import MethodInputs

LOGITS = torch.tensor([[[2.0, 0.0], [0.0, 1.0]], [[0.0, 4.0], [0.0, 3.0]]], dtype=torch.float64)  # [T=2, B=2, C=2]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_ensemble_is_the_mean_over_steps():
    assert tdd.self_target(LOGITS, torch.tensor([0, 1]), "ensemble").tolist() == [[1.0, 2.0], [0.0, 2.0]]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param([0, 1], [[2.0, 0.0], [0.0, 2.0]], id="one step right, both right"),
        pytest.param([1, 0], [[0.0, 4.0], [0.0, 0.0]], id="one step right, none right"),
    ],
)
def test_correct_mean_is_the_mean_over_the_steps_that_are_right(labels, expected):
    assert tdd.self_target(LOGITS, torch.tensor(labels), "correct_mean").tolist() == expected


def test_an_unknown_kind_is_named_with_what_is_allowed():
    with pytest.raises(ValueError, match=r"unknown self target 'mean'.*correct_mean, ensemble"):
        tdd.self_target(LOGITS, torch.tensor([0, 1]), "mean")


@pytest.mark.parametrize("kind", ["ensemble", "correct_mean"])
def test_gradient_is_that_of_distillation_from_a_constant_target(kind):
    logits, labels = draw(3, 4, 5).requires_grad_(), torch.tensor([0, 1, 2, 3])
    target = tdd.self_target(logits, labels, kind)
    own = tdd.loss(MethodInputs(logits, labels, draw(4, 5, seed=1)), tdd.Params(beta=1.0, self_target=kind))["self"]
    assert not target.requires_grad
    assert torch.autograd.gradcheck(lambda z: kd.per_step_kd(z, target, 3.0), logits)
    ours, expected = (torch.autograd.grad(loss, logits)[0] for loss in (own, kd.per_step_kd(logits, target, 3.0)))
    assert torch.equal(ours, expected)


@given(st.permutations(range(4)))
def test_the_order_of_the_steps_does_not_matter(order):
    logits, teacher, labels = draw(4, 3, 5), draw(3, 5, seed=1), torch.tensor([0, 1, 2])
    weights = {"alpha": 0.2, "beta": 0.5, "temperature": 3.0, "self_target": "correct_mean"}
    torch.testing.assert_close(
        tdd.tdd_loss(logits[list(order)], teacher, labels, **weights), tdd.tdd_loss(logits, teacher, labels, **weights)
    )


def test_without_weights_it_is_tet():
    logits, teacher, labels = draw(4, 3, 5), draw(3, 5, seed=1), torch.tensor([0, 1, 2])
    loss = tdd.tdd_loss(logits, teacher, labels, alpha=0.0, beta=0.0, temperature=3.0, self_target="ensemble")
    assert loss == tet.per_step_cross_entropy(logits, labels)


@pytest.mark.parametrize("wrong", [{"alpha": -1}, {"beta": -0.1}, {"temperature": 0}, {"self_target": "best"}, {"gamma": 1}])
def test_parameters_outside_their_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        tdd.Params(**wrong)
