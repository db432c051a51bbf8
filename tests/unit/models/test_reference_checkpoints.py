"""Checkpoints of the reference repositories give the logits of the authors' own networks."""

import pytest
import torch

from spikedistill.models import build_student, build_teacher
from spikedistill.models.imported.weights import load_weights
from tests import reference_checkpoints as reference

pytestmark = pytest.mark.slow

SEAL_AND_TDD = [name for name in reference.CASES if name.startswith(("sealkd", "tdd"))]
ESD = [name for name in reference.CASES if name.startswith("esd")]
CKDSNN = [name for name in reference.CASES if name.startswith("ckdsnn")]


def depth(arch):
    return int("".join(filter(str.isdigit, arch)))


def saved(content, folder):
    torch.save(content, folder / "model_weights.pth")
    return folder / "model_weights.pth"


def student_of(case):
    neuron = reference.neuron_of(case)
    return build_student(
        case["student"],
        num_classes=case["classes"],
        in_channels=case["channels"],
        time_steps=case["T"],
        neuron=neuron,
        backward=case.get("backward", "bptt"),
    ).double()


def shapes_of_student(case):
    number = depth(case["student"])
    if case["student"].startswith("preact"):
        return reference.preact(number, case["classes"])
    return reference.snn(number, case["classes"], case["channels"])


def agree(logits, expected):
    torch.testing.assert_close(logits[..., :6], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", SEAL_AND_TDD)
def test_students_of_seal_and_tdd(name, tmp_path):
    case = reference.CASES[name]
    state = reference.state_dict(shapes_of_student(case), case["first_keys"]["student"])
    student = student_of(case)
    found = load_weights(student.network, saved(reference.best_net(state), tmp_path))
    assert (found.how, found.place) == ("by order", "best_net")
    agree(student(reference.inputs(case)).logits.flatten(0, 1), reference.golden_logits(case))


@pytest.mark.parametrize("name", SEAL_AND_TDD)
def test_teachers_of_seal_and_tdd(name, tmp_path):
    case = reference.CASES[name]
    shapes = reference.ann(depth(case["teacher"]), case["classes"], case["channels"])
    state = reference.state_dict(shapes, case["first_keys"]["teacher"])
    teacher = build_teacher(case["teacher"], num_classes=case["classes"], in_channels=case["channels"]).double().eval()
    load_weights(teacher.network, saved(reference.best_net(state), tmp_path))
    agree(teacher(reference.inputs(case)).logits, reference.golden_logits(case, "teacher_logits"))


@pytest.mark.parametrize("name", ESD)
def test_students_of_esd_without_their_branches(name, tmp_path):
    case = reference.CASES[name]
    state = reference.state_dict(shapes_of_student(case), case["first_keys"]["student"])
    branches = reference.state_dict(reference.esd_branches(case["classes"]), 5)
    student = student_of(case)
    load_weights(student.network, saved(reference.best_net(state | branches), tmp_path))
    agree(student(reference.inputs(case)).logits[0], reference.golden_logits(case)[-case["batch"] :])


@pytest.mark.parametrize("name", CKDSNN)
def test_students_and_teachers_of_ckdsnn_in_one_lightning_checkpoint(name, tmp_path):
    case = reference.CASES[name]
    keys, number, classes = case["first_keys"], depth(case["student"]), case["classes"]
    state = reference.prefixed(
        "feature_extractor.", reference.state_dict(reference.ckd(number, classes, student=True), keys["student"])
    ) | reference.prefixed("teacher.", reference.state_dict(reference.ckd(number, classes, student=False), keys["teacher"]))
    file = saved(reference.lightning(state), tmp_path)
    student, teacher = student_of(case), build_teacher(case["teacher"], num_classes=classes, in_channels=3).double().eval()
    assert load_weights(student.network, file).place == "state_dict, feature_extractor."
    assert load_weights(teacher.network, file).place == "state_dict, teacher."
    agree(student(reference.inputs(case)).logits.mean(0), reference.golden_logits(case))
    agree(teacher(reference.inputs(case)).logits, reference.golden_logits(case, "teacher_logits"))


@pytest.mark.parametrize("prefix", ["", "feature_extractor."])
def test_teachers_of_ckdsnn_before_and_after_their_script_cuts_the_names(prefix, tmp_path):
    case = reference.CASES[CKDSNN[0]]
    state = reference.state_dict(reference.ckd(20, 10, student=False), case["first_keys"]["teacher"])
    teacher = build_teacher("resnet20_ckd_teacher", num_classes=10, in_channels=3).double().eval()
    load_weights(teacher.network, saved({"state_dict": reference.prefixed(prefix, state)}, tmp_path))
    agree(teacher(reference.inputs(case)).logits, reference.golden_logits(case, "teacher_logits"))
