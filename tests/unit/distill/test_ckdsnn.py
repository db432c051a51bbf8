"""CKDSNN: maps of the last features, and logits smoothed by noise."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikedistill.distill import ckdsnn, kd
from spikedistill.distill.method_inputs import MethodInputs

MAPS = ["code", "paper", "per_sample"]
NOISES = ["code", "paper", "paper_attached"]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_teacher_s_map_is_of_the_class_that_it_predicts():
    features = torch.tensor([[[[1.0, -2.0]], [[3.0, 1.0]]]])  # [B=1, D=2, h=1, w=2]
    weight = torch.tensor([[9.0, 9.0], [2.0, 1.0]])
    maps = ckdsnn.class_activation_map(features, torch.tensor([[0.0, 1.0]]), weight)
    assert maps.tolist() == [[[5.0, 0.0]]]  # 2 * 1 + 1 * 3, and relu(2 * -2 + 1 * 1)


def test_the_student_s_map_counts_its_spikes():
    spikes = torch.ones(3, 2, 600, 1, 1, dtype=torch.bfloat16)  # T * D = 1800, more than bfloat16 can count
    maps = ckdsnn.spike_activation_map(spikes)
    assert maps.dtype == torch.float32
    assert maps.flatten().tolist() == [1800.0, 1800.0]


@pytest.mark.parametrize("variant", MAPS)
@pytest.mark.parametrize("num_steps", [1, 3])
def test_gradient_of_the_map_loss(variant, num_steps):
    teacher = draw(2, 5, 3, 3, seed=1).relu(), draw(2, 4, seed=2), draw(4, 5, seed=3)
    assert torch.autograd.gradcheck(
        lambda features: ckdsnn.activation_map_loss(features, *teacher, variant=variant),
        draw(num_steps, 2, 6, 3, 3).requires_grad_(),
    )


@pytest.mark.parametrize("variant", MAPS)
@given(st.integers(0, 100))
def test_map_loss_is_zero_for_equal_maps_and_positive_else(variant, seed):
    maps = 5 * draw(2, 3, 3, seed=seed)
    assert ckdsnn.map_divergence(maps, maps, variant=variant, temperature=2.0).abs() < 1e-12
    assert ckdsnn.map_divergence(maps, maps.flip(0), variant=variant, temperature=2.0) > 0


@pytest.mark.parametrize("variant", ["code", "per_sample"])
@given(st.integers(0, 100), st.floats(-9, 9))
def test_scaled_maps_ignore_an_offset(variant, seed, offset):
    student, teacher = draw(2, 3, 3, seed=seed), draw(2, 3, 3, seed=seed + 1)
    losses = (ckdsnn.map_divergence(maps, teacher, variant=variant, temperature=2.0) for maps in (student, student + offset))
    torch.testing.assert_close(*losses)


def test_only_the_code_s_scaling_makes_samples_depend_on_each_other():
    student, teacher = draw(2, 3, 3), draw(2, 3, 3, seed=1)
    larger = student * torch.tensor([1.0, 7.0])[:, None, None]

    def change_of_first(variant):
        def first_gradient(maps):
            maps = maps.clone().requires_grad_()
            loss = ckdsnn.map_divergence(maps, teacher, variant=variant, temperature=2.0)
            return torch.autograd.grad(loss, maps)[0][0]

        return (first_gradient(student) - first_gradient(larger)).abs().max()

    assert change_of_first("code") > 1e-3
    assert change_of_first("per_sample") < 1e-12
    assert change_of_first("paper") < 1e-12


def test_the_larger_map_is_averaged_to_the_size_of_the_smaller():
    student, teacher = draw(1, 2, 5, 2, 2).abs(), (draw(2, 5, 4, 4, seed=1).abs(), draw(2, 4, seed=2), draw(4, 5, seed=3).abs())
    maps = ckdsnn.spike_activation_map(student), ckdsnn.class_activation_map(*teacher)
    quarters = torch.stack([q.mean((1, 2)) for half in maps[1].chunk(2, 1) for q in half.chunk(2, 2)], 1).view(2, 2, 2)
    expected = ckdsnn.map_divergence(maps[0], quarters, variant="paper", temperature=2.0)
    torch.testing.assert_close(ckdsnn.activation_map_loss(student, *teacher, variant="paper"), expected)


@pytest.mark.parametrize("variant", MAPS)
def test_a_row_that_is_the_mean_of_steps_counts_for_all_of_them(variant):
    features, teacher = draw(3, 2, 6, 4, 4).abs(), (draw(2, 5, 4, 4, seed=1), draw(2, 4, seed=2), draw(4, 5, seed=3))
    of_means = ckdsnn.activation_map_loss(features.mean(0, keepdim=True), *teacher, variant=variant, steps_per_row=3)
    torch.testing.assert_close(of_means, ckdsnn.activation_map_loss(features, *teacher, variant=variant))


def nld(logits, teacher, noise, variant, *, weight=0.9, scale=0.1):
    return ckdsnn.noise_smoothed_loss(
        logits, teacher, noise, temperature=2.0, noise_weight=weight, variant=variant, noise_scale=scale
    )


@pytest.mark.parametrize("variant", ["code", "paper_attached"])
def test_gradient_of_the_noise_loss(variant):
    teacher, noise = draw(2, 5, seed=1), draw(2, 5, seed=2)
    assert torch.autograd.gradcheck(lambda logits: nld(logits, teacher, noise, variant), draw(2, 5).requires_grad_())


def test_gradient_with_constant_noise_is_that_of_distillation_of_shifted_logits():
    logits, teacher, noise = draw(2, 5).requires_grad_(), draw(2, 5, seed=1), draw(2, 5, seed=2)
    std, mean = torch.std_mean(logits.detach(), -1, keepdim=True)
    shifted = (logits + 0.1 * (mean + noise * std)).detach().requires_grad_()
    (ours,) = torch.autograd.grad(nld(logits, teacher, noise, "paper"), logits)
    (expected,) = torch.autograd.grad(kd.kd_divergence(shifted, teacher, 2.0), shifted)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize(
    ("variant", "off"), [("code", {"weight": 1.0}), ("paper", {"scale": 0.0}), ("paper_attached", {"scale": 0.0})]
)
def test_without_noise_it_is_distillation(variant, off):
    logits, teacher, noise = draw(2, 5).requires_grad_(), draw(2, 5, seed=1), draw(2, 5, seed=2)
    losses = nld(logits, teacher, noise, variant, **off), kd.kd_divergence(logits, teacher, 2.0)
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in losses))


def test_noise_alone_of_no_noise_is_a_uniform_student():
    teacher = torch.tensor([[math.log(3.0) * 2, 0.0]], dtype=torch.float64)  # (3/4, 1/4) at temperature 2
    loss = nld(draw(1, 2), teacher, torch.zeros(1, 2, dtype=torch.float64), "code", weight=0.0)
    assert loss.item() == pytest.approx(4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)))


@pytest.mark.parametrize("variant", NOISES)
def test_equal_logits_have_a_finite_gradient(variant):
    logits = torch.ones(2, 5, requires_grad=True)  # their standard deviation is 0
    (gradient,) = torch.autograd.grad(nld(logits, draw(2, 5, seed=1).float(), draw(2, 5, seed=2).float(), variant), logits)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("variant", NOISES)
@given(st.integers(0, 100))
def test_noise_loss_is_never_negative(variant, seed):
    assert nld(9 * draw(3, 5, seed=seed), 9 * draw(3, 5, seed=seed + 1), draw(3, 5, seed=seed + 2), variant) >= 0


def test_an_unknown_variant_is_named_with_what_is_allowed():
    with pytest.raises(
        ValueError, match=r"unknown variant 'papers'. Did you mean 'paper'\? Allowed: code, paper, paper_attached"
    ):
        nld(draw(2, 5), draw(2, 5), draw(2, 5), "papers")
    with pytest.raises(ValueError, match=r"unknown variant 'batch'.*Allowed: code, paper, per_sample"):
        ckdsnn.map_divergence(draw(2, 3, 3), draw(2, 3, 3), variant="batch", temperature=2.0)


@pytest.mark.parametrize(
    "wrong", [{"beta": -1}, {"gamma": -1}, {"temperature": 0}, {"noise_weight": 1.1}, {"noise_scale": -1}, {"nld_variant": "x"}]
)
def test_parameters_outside_their_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ckdsnn.Params(**wrong)


def test_a_position_that_the_student_never_looks_at_costs_no_more_than_its_1e_10():
    maps = torch.tensor([[[0.0, 1.0]]], dtype=torch.float64)
    found = ckdsnn.map_divergence(maps, maps.flip(-1), variant="code", temperature=0.02)
    assert found.item() == pytest.approx(10 * math.log(10), abs=1e-6)  # e^-50 without it


def test_each_term_has_its_own_weight():
    generator = torch.Generator().manual_seed(0)
    logits, teacher, noise, weight, own, its = (
        torch.randn(*shape, generator=generator) for shape in ((2, 3, 4), (3, 4), (3, 4), (4, 5), (2, 3, 6, 2, 2), (3, 5, 2, 2))
    )
    inputs = MethodInputs(
        logits, torch.tensor([0, 1, 2]), teacher, features=own, teacher_features=its, teacher_weight=weight, noise=noise
    )
    plain, weighted = (ckdsnn.loss(inputs, ckdsnn.Params(beta=beta, gamma=gamma)) for beta, gamma in ((1, 1), (2, 5)))
    assert {name: (weighted[name] / plain[name]).item() for name in plain} == pytest.approx({"ce": 1, "samd": 2, "nld": 5})
