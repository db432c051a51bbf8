"""`dataset.train_samples`, `teacher.seed: student` and `methods.LABEL.train` in the plan."""

import copy

import pytest

from spikedistill.config.check import parse_config
from spikedistill.errors import ConfigError
from spikedistill.plan.build import build_plan
from spikedistill.plan.rehearsal import rehearsal
from spikedistill.plan.stages import DistillSpec, TeacherSpec

CONFIG = {
    "seeds": [0, 1, 2],
    "experiments": {
        "one": {
            "dataset": {"name": "mnist-5k", "validation": 500},
            "teacher": {"arch": "resnet8", "train": {"epochs": 2, "batch_size": 50}},
            "student": {"arch": "resnet8", "time_steps": 2, "train": {"epochs": 3, "batch_size": 50, "lr": 0.1}},
            "methods": {"ce": {}, "kd": {}},
        }
    },
}


def changed(**sections):
    config = copy.deepcopy(CONFIG)
    for section, values in sections.items():
        config["experiments"]["one"][section] = {**config["experiments"]["one"].get(section, {}), **values}
    return config


def specs(config, kind):
    return [spec for spec in build_plan(parse_config(config)).stages.values() if isinstance(spec, kind)]


def test_each_student_has_a_teacher_of_its_own_trained_with_its_seed():
    plan = build_plan(parse_config(changed(teacher={"seed": "student"})))
    teachers = {spec.ref: spec for spec in plan.stages.values() if isinstance(spec, TeacherSpec)}
    assert sorted(spec.seed for spec in teachers.values()) == [0, 1, 2]
    students = [spec for spec in plan.stages.values() if isinstance(spec, DistillSpec) and spec.method == "kd"]
    assert all(teachers[student.teacher].seed == student.seed for student in students) and len(students) == 3
    assert [row.seed for row in plan.rows if row.method == "teacher"] == [0, 1, 2]


def test_the_teacher_of_a_seed_is_the_one_that_is_asked_for_by_its_number():
    (by_number,) = specs(changed(teacher={"seed": 1}), TeacherSpec)
    assert by_number.id in {spec.id for spec in specs(changed(teacher={"seed": "student"}), TeacherSpec)}


def test_a_method_without_a_teacher_has_the_same_students_whoever_teaches_the_others():
    ids = [
        {spec.id for spec in specs(config, DistillSpec) if spec.method == "ce"}
        for config in (CONFIG, changed(teacher={"seed": "student"}))
    ]
    assert ids[0] == ids[1]


def test_a_method_trains_by_the_common_recipe_with_its_own_changes():
    config = changed(methods={"kd": {"train": {"lr": 0.05, "epochs": 7}}})
    of = {spec.method: spec.train for spec in specs(config, DistillSpec)}
    assert (of["ce"].lr, of["ce"].epochs) == (0.1, 3)
    assert (of["kd"].lr, of["kd"].epochs, of["kd"].batch_size) == (0.05, 7, 50)


def test_a_change_to_the_same_value_changes_no_id():
    config = changed(methods={"kd": {"train": {"lr": 0.1}}})
    assert {spec.id for spec in specs(config, DistillSpec)} == {spec.id for spec in specs(CONFIG, DistillSpec)}


def test_a_rehearsal_has_one_epoch_whatever_a_method_asks_for():
    config = rehearsal(parse_config(changed(methods={"kd": {"train": {"lr": 0.05, "epochs": 7, "warmup_epochs": 2}}})))
    recipe = config.experiments["one"].recipe_of("kd")
    assert (recipe.epochs, recipe.warmup_epochs, recipe.lr) == (1, 0, 0.05)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"kd": {"train": {"lr": 0}}}, "experiments.one.methods.kd.train.lr: input should be greater than 0"),
        ({"kd": {"train": {"rate": 1}}}, "experiments.one.methods.kd.train.rate"),
        ({"kd": {"train": {"lr": [0.1, 0.2]}}}, "experiments.one.methods.kd.train.lr: input should be a valid number"),
        ({"kd": {"train": {"optimizer": {"name": "adan"}}}}, "experiments.one.methods.kd.train.optimizer"),
        (
            {"kd": {"train": {"schedule": {"name": "step", "params": {"milestones": [9]}}}}},
            "experiments.one.methods.kd.train.schedule",
        ),
        ({"kd": {"train": {"augment": {"auto_augment": "cifar10"}}}}, "experiments.one.methods.kd.train.augment.auto_augment"),
        ({"kd": {"weights": "x.pth", "train": {"lr": 0.1}}}, "the method has `weights`, so nothing is trained"),
        ({"kd": {"train": {"warmup_epochs": 3}}}, "warmup_epochs 3 must be below epochs 3"),
    ],
)
def test_a_change_that_cannot_be_is_told_with_its_key(methods, message):
    with pytest.raises(ConfigError, match="(?s)" + message.replace("[", r"\[")):
        parse_config(changed(methods=methods))


def test_numbers_of_labels_are_swept_and_named():
    plan = build_plan(parse_config(changed(dataset={"train_samples": [300, 500]})))
    assert {row.experiment for row in plan.rows} == {"one[train_samples=300]", "one[train_samples=500]"}
    assert len({spec.data for spec in plan.stages.values() if isinstance(spec, DistillSpec)}) == 1
    assert {spec.train_samples for spec in plan.stages.values() if isinstance(spec, DistillSpec | TeacherSpec)} == {300, 500}


def test_all_samples_change_no_id():
    assert [spec.id for spec in specs(changed(dataset={"train_samples": 0}), DistillSpec)] == [
        spec.id for spec in specs(CONFIG, DistillSpec)
    ]


def test_more_samples_than_there_are_is_told_before_anything_runs():
    with pytest.raises(ConfigError, match=r"experiments.one.dataset.train_samples: at most 1500: .* found 1501"):
        parse_config(changed(dataset={"train_samples": 1501}))
