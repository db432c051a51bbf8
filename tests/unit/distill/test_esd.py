"""Enhanced self-distillation: who teaches, who is taught, and what the scripts weight."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikedistill.distill import esd, kd

CE = torch.nn.functional.cross_entropy


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exits_that_are_right(right):
    """Exits [K, B, 3] for label 0 of every sample, from which exits are right [K, B]."""
    right = torch.tensor(right)
    exits = draw(*right.shape, 3).abs()
    return exits.scatter(-1, torch.where(right, 0, 1)[..., None], 5.0 + draw(*right.shape, 1, seed=1).abs())


def test_the_teacher_is_the_mean_of_the_exits_that_are_right():
    exits = exits_that_are_right([[True, False, True], [True, False, False]])
    target, mask = esd.reliable_teacher(exits, torch.tensor([0, 0, 0]))
    assert torch.equal(target[0], exits[:, 0].mean(0))
    assert torch.equal(target[2], exits[0, 2])
    assert target[1].tolist() == [0.0, 0.0, 0.0]
    assert mask.tolist() == [True, False, True]


def test_a_sample_without_a_teacher_neither_learns_nor_counts():
    exits = exits_that_are_right([[True, False, True], [True, False, False]])
    labels, taught = torch.tensor([0, 0, 0]), [0, 2]
    learner = exits.clone().requires_grad_()
    loss = esd.exits_distillation(learner, labels, 3.0)
    torch.testing.assert_close(loss.detach(), esd.exits_distillation(exits[:, taught], labels[taught], 3.0))
    (gradient,) = torch.autograd.grad(loss, learner)
    assert gradient[:, 1].eq(0).all()
    assert gradient[:, 0].ne(0).all()  # the other one is taught by one exit alone, which has nothing to learn


@pytest.mark.parametrize("variant", ["cifar", "dvs", "imagenet"])
def test_without_any_teacher_the_cross_entropy_remains(variant):
    exits = exits_that_are_right([[False, False], [False, False]]).requires_grad_()
    labels = torch.tensor([0, 0])
    loss = esd.esd_loss(exits, labels, alpha=0.7, beta=0.3, temperature=3.0, variant=variant)
    hard = esd.exits_cross_entropy(exits, labels, 0.7, variant)
    assert loss.item() == hard.item()
    assert torch.equal(torch.autograd.grad(loss, exits)[0], torch.autograd.grad(hard, exits)[0])


@pytest.mark.parametrize(("variant", "weights"), [("cifar", [0.7, 0.7, 0.7]), ("dvs", [1, 1, 1]), ("imagenet", [0.7, 0.7, 1])])
def test_weights_of_the_cross_entropies(variant, weights):
    exits, labels = draw(3, 4, 5), torch.tensor([0, 1, 2, 3])
    expected = sum(weight * CE(exit_, labels) for weight, exit_ in zip(weights, exits, strict=True))
    torch.testing.assert_close(esd.exits_cross_entropy(exits, labels, 0.7, variant), expected)


def test_gradient_is_that_of_distillation_from_a_constant_teacher():
    exits, labels = draw(3, 6, 4).requires_grad_(), torch.tensor([0, 1, 2, 3, 0, 1])
    target, mask = esd.reliable_teacher(exits, labels)
    assert not target.requires_grad
    assert mask.any() and not mask.all()

    def from_constant(learner):
        return sum(kd.kd_divergence(row[mask], target[mask], 3.0) for row in learner)

    assert torch.autograd.gradcheck(from_constant, exits)
    losses = esd.exits_distillation(exits, labels, 3.0), from_constant(exits)
    ours, expected = (torch.autograd.grad(loss, exits)[0] for loss in losses)
    torch.testing.assert_close(ours, expected)


def test_gradient_of_the_cross_entropies():
    labels = torch.tensor([0, 1])
    assert torch.autograd.gradcheck(
        lambda exits: esd.exits_cross_entropy(exits, labels, 0.7, "imagenet"), draw(3, 2, 4).requires_grad_()
    )


@given(st.permutations(range(4)), st.integers(0, 100))
def test_exits_are_equal_learners(order, seed):
    exits, labels = draw(4, 3, 5, seed=seed), torch.tensor([0, 1, 2])
    torch.testing.assert_close(
        esd.exits_distillation(exits[list(order)], labels, 3.0), esd.exits_distillation(exits, labels, 3.0)
    )


@given(st.integers(0, 100))
def test_one_exit_has_nothing_to_learn_from_itself(seed):
    exits, labels = draw(1, 3, 5, seed=seed), torch.tensor([0, 1, 2])
    assert esd.exits_distillation(exits, labels, 3.0).abs() < 1e-12


def test_an_unknown_variant_is_named_with_what_is_allowed():
    with pytest.raises(ValueError, match=r"unknown variant 'cifar10'. Did you mean 'cifar'\? Allowed: cifar, dvs, imagenet"):
        esd.exits_cross_entropy(draw(3, 2, 4), torch.tensor([0, 1]), 1.0, "cifar10")


@pytest.mark.parametrize("wrong", [{"alpha": -1}, {"beta": -0.1}, {"temperature": 0}, {"variant": "mnist"}, {"alp": 1}])
def test_parameters_outside_their_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        esd.Params(**wrong)


def test_an_alpha_that_would_be_ignored_is_refused():
    with pytest.raises(ValueError, match="variant dvs has no alpha"):
        esd.Params(variant="dvs", alpha=0.7)
    assert esd.Params(variant="dvs", beta=0.1).alpha == 1.0
