"""Losses against golden values and gradients, and closed forms."""

import json
import math
from pathlib import Path

import pytest
import torch

from spikedistill.distill import ce, kd, tet
from spikedistill.distill.forward import Forward

GOLDEN = Path(__file__).parents[2] / "golden"
CE_CASES = json.loads((GOLDEN / "baseline_ce.json").read_text())["cases"]
KD_CASES = json.loads((GOLDEN / "vanilla_kd.json").read_text())["cases"]


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def assert_value_and_gradient(loss, logits, value, gradient):
    (actual,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(value, abs=1e-9)
    torch.testing.assert_close(actual, tensor(gradient), rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", CE_CASES, ids=lambda case: case["name"])
@pytest.mark.parametrize(
    ("function", "key"), [(ce.mean_cross_entropy, "ce_mean_logits"), (tet.per_step_cross_entropy, "ce_per_timestep")]
)
def test_cross_entropy_matches_golden(case, function, key):
    logits = tensor(case["inputs"]["student_logits"]).requires_grad_()
    loss = function(logits, torch.tensor(case["inputs"]["labels"]))
    assert_value_and_gradient(loss, logits, case["expected"][key], case["expected"][key + "_grad"])


@pytest.mark.parametrize("case", KD_CASES, ids=lambda case: case["name"])
def test_divergence_of_the_mean_matches_golden(case):
    logits = tensor(case["inputs"]["student_logits"]).requires_grad_()
    teacher = tensor(case["inputs"]["teacher_logits"])
    loss = kd.kd_divergence(logits.mean(0), teacher, case["hparams"]["tau"])
    expected = case["expected"]
    assert_value_and_gradient(loss, logits, expected["kd_on_mean_logits"], expected["kd_on_mean_logits_grad"])


@pytest.mark.parametrize("case", KD_CASES, ids=lambda case: case["name"])
def test_per_step_divergence_matches_golden(case):
    logits = tensor(case["inputs"]["student_logits"]).requires_grad_()
    teacher = tensor(case["inputs"]["teacher_logits"])
    loss = kd.per_step_kd(logits, teacher, case["hparams"]["tau"])
    expected = case["expected"]
    assert_value_and_gradient(loss, logits, expected["kd_per_timestep_uniform"], expected["kd_per_timestep_uniform_grad"])


def test_divergence_is_zero_where_both_agree_and_ignores_a_shift():
    logits = tensor([[1.0, -2.0, 0.5]])
    assert kd.kd_divergence(logits, logits + 3.0, 2.0).item() == pytest.approx(0.0, abs=1e-12)


def test_divergence_in_closed_form_for_two_classes():
    # teacher (3/4, 1/4), student (1/2, 1/2), temperature 1
    teacher = tensor([[math.log(3.0), 0.0]])
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert kd.kd_divergence(tensor([[0.0, 0.0]]), teacher, 1.0).item() == pytest.approx(expected, abs=1e-12)


def test_no_gradient_flows_into_the_teacher():
    teacher = tensor([[3.0, 0.0]]).requires_grad_()
    logits = tensor([[[0.0, 1.0]], [[1.0, 1.0]]]).requires_grad_()
    kd.per_step_kd(logits, teacher, 3.0).backward()
    assert teacher.grad is None
    assert logits.grad.abs().sum() > 0


def test_one_step_makes_mean_and_per_step_losses_equal():
    logits, labels = tensor([[[2.0, 0.5], [0.1, 0.2]]]), torch.tensor([0, 1])
    assert ce.mean_cross_entropy(logits, labels) == tet.per_step_cross_entropy(logits, labels)
    teacher = tensor([[1.0, 0.0], [0.0, 1.0]])
    assert kd.per_step_kd(logits, teacher, 3.0) == kd.kd_divergence(logits[0], teacher, 3.0)


def test_kd_loss_weights_its_terms():
    case = KD_CASES[0]
    logits, teacher = tensor(case["inputs"]["student_logits"]), tensor(case["inputs"]["teacher_logits"])
    terms = kd.loss(Forward(logits, torch.tensor([0, 1]), teacher), kd.Params(alpha=0.5, temperature=3.0))
    assert terms["ce"].item() == pytest.approx(0.9706361894617805, abs=1e-9)
    assert terms["kd"].item() == pytest.approx(0.5 * 0.7441298470997336, abs=1e-9)
    assert set(terms) == {"ce", "kd"}


def test_losses_keep_float32_under_autocast():
    logits = torch.randn(4, 8, 10, generator=torch.Generator().manual_seed(0))
    labels, teacher = torch.arange(8), torch.randn(8, 10, generator=torch.Generator().manual_seed(1))
    plain = kd.loss(Forward(logits, labels, teacher), kd.Params())
    with torch.autocast("cpu", torch.bfloat16):
        autocast = kd.loss(Forward(logits, labels, teacher), kd.Params())
    assert {name: float(value) for name, value in autocast.items()} == {n: float(v) for n, v in plain.items()}


@pytest.mark.parametrize("wrong", [{"alpha": -0.1}, {"temperature": 0.0}, {"tau": 1.0}])
def test_parameters_outside_their_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        kd.Params(**wrong)
