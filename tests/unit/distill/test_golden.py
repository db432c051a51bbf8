"""Every loss against values and gradients of its authors' own code, in float64 (tests/golden)."""

import json
from pathlib import Path

import pytest
import torch

from spikedistill.distill import ce, ckdsnn, esd, kd, sealkd, tdd, tet

GOLDEN = Path(__file__).parents[2] / "golden"


def cases_of(name):
    return pytest.mark.parametrize(
        "case", json.loads((GOLDEN / f"{name}.json").read_text())["cases"], ids=lambda case: case["name"]
    )


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def inputs_of(case, *names):
    given = case["inputs"]
    return [torch.tensor(given[name]) if name == "labels" else tensor(given[name]) for name in names]


def assert_matches(loss, learner, value, gradient):
    (actual,) = torch.autograd.grad(loss, learner)
    assert loss.item() == pytest.approx(value, rel=0, abs=1e-9)
    torch.testing.assert_close(actual, tensor(gradient), rtol=0, atol=1e-9)


def assert_close(actual, expected):
    torch.testing.assert_close(actual, tensor(expected), rtol=0, atol=1e-9)


@cases_of("baseline_ce")
@pytest.mark.parametrize(
    ("function", "key"), [(ce.mean_cross_entropy, "ce_mean_logits"), (tet.per_step_cross_entropy, "ce_per_timestep")]
)
def test_cross_entropy(case, function, key):
    logits, labels = inputs_of(case, "student_logits", "labels")
    loss = function(logits.requires_grad_(), labels)
    assert_matches(loss, logits, case["expected"][key], case["expected"][key + "_grad"])


@cases_of("vanilla_kd")
@pytest.mark.parametrize(("function", "key"), [(kd.mean_kd, "kd_on_mean_logits"), (kd.per_step_kd, "kd_per_timestep_uniform")])
def test_distillation(case, function, key):
    logits, teacher = inputs_of(case, "student_logits", "teacher_logits")
    loss = function(logits.requires_grad_(), teacher, case["hparams"]["tau"])
    assert_matches(loss, logits, case["expected"][key], case["expected"][key + "_grad"])


@cases_of("tdd")
@pytest.mark.parametrize(
    ("kind", "key"), [("correct_mean", "code_variant_correct_steps_mean"), ("ensemble", "paper_variant_ensemble_mean")]
)
def test_tdd(case, kind, key):
    logits, teacher, labels = inputs_of(case, "student_logits", "teacher_logits", "labels")
    hparams, expected = case["hparams"], case["expected"][key]
    weights = {"alpha": hparams["alpha"], "beta": hparams["beta"], "temperature": hparams["tau"]}
    loss = tdd.tdd_loss(logits.requires_grad_(), teacher, labels, self_target=kind, **weights)
    assert_matches(loss, logits, expected["loss"], expected["grad_student_logits"])
    target = tdd.self_target(logits, labels, kind)
    assert_close(target, expected["self_target_logits"])
    assert_close(kd.per_step_kd(logits, target, hparams["tau"]), expected["twsd"])


@cases_of("seal_ela")
def test_error_aware_alignment(case):
    logits, teacher, labels = inputs_of(case, "student_logits", "teacher_logits", "labels")
    loss = sealkd.error_aware_alignment(logits.requires_grad_(), teacher, labels, case["hparams"]["tau"])
    assert_matches(loss, logits, case["expected"]["loss"], case["expected"]["grad_student_logits"])


@cases_of("seal_sta")
def test_temporal_alignment(case):
    (logits,) = inputs_of(case, "student_logits")
    loss = sealkd.temporal_alignment(logits.requires_grad_(), case["hparams"]["tau"])
    expected = case["expected"]
    constant = torch.zeros_like(logits).tolist()  # of one step: the authors' code returns a constant
    assert_matches(loss, logits, expected["loss"], expected.get("grad_student_logits", constant))
    assert_close(sealkd.temporal_targets(logits), expected.get("target_logits", logits.tolist()))


@cases_of("seal_total")
def test_sealkd(case):
    logits, teacher, labels = inputs_of(case, "student_logits", "teacher_logits", "labels")
    hparams = case["hparams"]
    weights = {"alpha": hparams["alpha"], "beta": hparams["beta"], "temperature": hparams["tau"]}
    loss = sealkd.sealkd_loss(logits.requires_grad_(), teacher, labels, **weights)
    assert_matches(loss, logits, case["expected"]["loss"], case["expected"]["grad_student_logits"])


@cases_of("esd")
@pytest.mark.parametrize("variant", ["cifar", "dvs", "imagenet"])
def test_esd(case, variant):
    exits, labels = inputs_of(case, "exit_logits", "labels")
    hparams, expected = case["expected"][variant]["hparams"], case["expected"][variant]
    weights = {"alpha": hparams.get("alp", 1.0), "beta": hparams["beta"], "temperature": case["hparams"]["tau"]}
    loss = esd.esd_loss(exits.requires_grad_(), labels, variant=variant, **weights)
    assert loss.item() == pytest.approx(expected["loss_reported"], rel=0, abs=1e-9)
    per_step = loss / case["inputs"]["T"]
    assert_matches(per_step, exits, expected["loss_backward"], expected["grad_exit_logits_of_loss_backward"])
    target, mask = esd.reliable_teacher(exits, labels)
    assert_close(target, case["expected"]["teacher_logits"])
    assert mask.tolist() == case["expected"]["valid_mask"]


@cases_of("ckd_samd")
@pytest.mark.parametrize(
    ("variant", "key"),
    [("code", "code"), ("per_sample", "recommended_per_sample_minmax_tau2"), ("paper", "paper_formula_no_minmax_tau2")],
)
def test_samd(case, variant, key):
    features, teacher_features, teacher_logits, weight = inputs_of(
        case,
        "student_last_stage_features_BTDHW",
        "teacher_last_stage_features_BDHW",
        "teacher_logits_BC",
        "teacher_linear_weight_CD",
    )
    features.requires_grad_()
    maps = features.transpose(0, 1), teacher_features, teacher_logits, weight
    loss = ckdsnn.activation_map_loss(*maps, variant=variant, temperature=case["hparams"]["tau"])
    assert_matches(loss, features, case["expected"][key]["loss"], case["expected"][key]["grad_student_features"])


@cases_of("ckd_nld")
@pytest.mark.parametrize(
    ("variant", "key"),
    [
        ("code", "code"),
        ("paper", "paper_logit_space_stats_detached"),
        ("paper_attached", "paper_logit_space_stats_not_detached"),
    ],
)
def test_nld(case, variant, key):
    logits, teacher, noise = inputs_of(case, "student_logits", "teacher_logits", "standard_normal_draw")
    hparams = case["hparams"]
    loss = ckdsnn.noise_smoothed_loss(
        logits.requires_grad_(),
        teacher,
        noise,
        temperature=hparams["tau"],
        noise_weight=hparams["noise_weight"],
        variant=variant,
        noise_scale=hparams["lambda_paper"],
    )
    assert_matches(loss, logits, case["expected"][key]["loss"], case["expected"][key]["grad_student_logits"])
