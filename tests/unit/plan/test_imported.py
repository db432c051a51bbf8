"""Ids and commands of teachers and students from elsewhere."""

import copy
import os

import pytest
import torch

from spikedistill.config.check import parse_config
from spikedistill.errors import ConfigError
from spikedistill.launch.command import stage_arguments
from spikedistill.plan.build import build_plan
from spikedistill.plan.estimate import Estimator
from spikedistill.plan.stages import parse_spec
from spikedistill.plan.tables import run_table
from spikedistill.plan.weights import weights_digest

TRAIN = {"epochs": 1, "batch_size": 64}


@pytest.fixture
def weights(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def plan_of(teacher=None, methods=None, seeds=(0,), **more):
    experiment = {
        "dataset": {"name": "digits"},
        "teacher": teacher or {"arch": "resnet8", "train": TRAIN},
        "student": {"arch": "resnet8", "time_steps": 2, "train": TRAIN},
        "methods": methods or {"kd": {}},
    }
    return build_plan(parse_config(copy.deepcopy({"seeds": list(seeds), "experiments": {"one": experiment}} | more)))


def imported(weights, **changes):
    return {"arch": "torchvision/resnet18", "weights": str(weights)} | changes


def teacher_ref(plan):
    return next(ref for ref in plan.stages if ref.startswith("teachers/"))


def test_the_same_file_under_another_name_has_the_same_id_and_another_file_another(weights, tmp_path):
    ref = teacher_ref(plan_of(imported(weights)))
    copied = tmp_path / "elsewhere.pth"
    copied.write_bytes(weights.read_bytes())
    assert teacher_ref(plan_of(imported(copied))) == ref
    torch.save({"weight": torch.ones(2)}, weights)
    assert teacher_ref(plan_of(imported(weights))) != ref


def test_what_changes_the_imported_teacher_changes_its_id(weights):
    ref = teacher_ref(plan_of(imported(weights)))
    assert ref.startswith("teachers/digits-torchvision-resnet18-seed0-")
    for changes in ({"train": TRAIN}, {"classes": list(range(10))}, {"inputs": {"size": 32}}, {"arch": "torchvision/resnet34"}):
        assert teacher_ref(plan_of(imported(weights, **changes))) != ref
    assert teacher_ref(plan_of(imported(weights, seed=7))) == ref  # nothing is drawn
    assert teacher_ref(plan_of(imported(weights, inputs={}))) == ref


def test_its_students_follow_its_id(weights):
    def student(plan):
        return next(ref for ref in plan.stages if ref.startswith("students/"))

    assert student(plan_of(imported(weights))) != student(plan_of(imported(weights, inputs={"size": 32})))


def test_the_spec_survives_its_journey_as_json(weights):
    plan = plan_of(imported(weights, classes=[[0, 11], *range(1, 10)], inputs={"mean": [0.5] * 3, "std": [0.5] * 3}))
    for spec in plan.stages.values():
        assert parse_spec(spec.model_dump_json()) == spec
        assert parse_spec(spec.model_dump_json()).id == spec.id


def test_the_job_gets_the_file(weights):
    plan = plan_of(imported(weights), {"kd": {}, "published": {"method": "tet", "weights": str(weights)}})
    given = {ref: stage_arguments(plan, spec) for ref, spec in plan.stages.items()}
    found = [ref for ref, arguments in given.items() if arguments[-2:] == ["--weights", str(weights)]]
    assert {ref.partition("/")[0] for ref in found} == {"teachers", "students"}
    assert len(found) == 2


def test_a_published_student_is_evaluated_once_and_needs_no_teacher(weights):
    plan = plan_of(methods={"kd": {}, "published": {"method": "kd", "weights": str(weights)}}, seeds=(1, 2, 3))
    rows = [row for row in plan.rows if row.method == "published"]
    assert len(rows) == 1
    spec = plan.stages[rows[0].model]
    assert spec.teacher is None
    assert spec.train is None
    assert spec.weights == weights_digest(str(weights))
    assert plan.stages[rows[0].evaluation].teacher == teacher_ref(plan)
    assert len([row for row in plan.rows if row.method == "kd"]) == 3


def test_estimates_and_tables_know_what_is_imported(weights):
    plan = plan_of(imported(weights), {"kd": {}, "published": {"method": "kd", "weights": str(weights)}})
    estimator = Estimator(plan)
    costs = {ref: estimator(ref) for ref in plan.stages}
    assert costs[teacher_ref(plan)].gpus == 0
    assert costs[teacher_ref(plan)].hours < 0.05
    assert "imported" in run_table(plan, lambda spec: costs[spec.ref])


def test_a_student_of_a_large_teacher_is_estimated_at_the_teachers_size(weights):
    def hours(**inputs):
        plan = plan_of(imported(weights, inputs=inputs))
        return next(Estimator(plan)(ref, 0).hours for ref in plan.stages if ref.startswith("students/"))

    assert hours() > hours(size=32) > hours(size="dataset")


def test_a_rehearsal_keeps_the_width_that_the_weights_fit(weights):
    teacher = {"arch": "resnet18", "weights": str(weights), "train": {"epochs": 9, "batch_size": 64}}
    published = {"published": {"method": "tet", "weights": str(weights)}}
    small = plan_of(teacher, published, rehearse=True)
    spec = small.stages[teacher_ref(small)]
    assert spec.network["widths"] == [64, 128, 256, 512]
    assert spec.train.epochs == 1
    assert next(s for s in small.stages.values() if s.stage == "distill").network["widths"] == [16, 32, 64]


@pytest.mark.parametrize("weights_given", [True, False])
def test_what_a_rehearsal_prints_is_valid_for_models_of_other_libraries(weights, weights_given):
    teacher = imported(weights, train=TRAIN) if weights_given else {"arch": "torchvision/resnet18", "train": TRAIN}
    small = plan_of(teacher, rehearse=True)
    assert build_plan(parse_config(small.config.model_dump(mode="json"))).stages.keys() == small.stages.keys()


def test_a_file_is_read_once_until_it_changes(weights, monkeypatch):
    from spikedistill.plan import weights as module

    read = []
    monkeypatch.setattr(module, "sha256", lambda path: read.append(path) or str(len(read)))
    module._digest.cache_clear()
    assert [weights_digest(str(weights)) for _ in range(3)] == ["1", "1", "1"]
    os.utime(weights, ns=(1, 1))
    assert weights_digest(str(weights)) == "2"
    module._digest.cache_clear()


def test_a_file_that_went_away_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone.pth: No such file"):
        weights_digest(str(tmp_path / "gone.pth"))
