"""The plan of a configuration: which stages, with which ids."""

import copy
from pathlib import Path

import pytest
import yaml

from spikedistill.config.check import parse_config
from spikedistill.errors import ConfigError
from spikedistill.plan import build
from spikedistill.plan.build import build_plan
from spikedistill.plan.stages import parse_spec

CONFIG = yaml.safe_load((Path(__file__).parents[3] / "config.yaml").read_text())


def with_student(**changes):
    config = copy.deepcopy(CONFIG)
    config["experiments"]["digits"]["student"] |= changes
    return config


def test_ids_are_stable(monkeypatch):
    monkeypatch.setattr(build, "code_of", lambda modules: {})  # as released, whatever is being edited here
    config = yaml.safe_load(FIXED)
    refs = list(build_plan(parse_config(config)).stages)
    assert refs == FIXED_REFS


FIXED = """
seeds: [7]
experiments:
  one:
    dataset: {name: digits-dvs, params: {num_frames: 2}}
    teacher: {arch: resnet18, train: {epochs: 3, batch_size: 32}}
    student: {arch: resnet18, time_steps: 2, train: {epochs: 5, batch_size: 16}}
    methods: {kd: {params: {alpha: 0.5}}}
"""


FIXED_REFS = [
    "data/digits-dvs-f77b5add77",
    "teachers/digits-dvs-resnet18-seed0-4be45129ed",
    "evaluations/teacher-digits-dvs-resnet18-seed0-af3cddf2ed",
    "students/digits-dvs-resnet18-kd-seed7-52b75fcc14",
    "evaluations/student-digits-dvs-resnet18-kd-seed7-a7821a55b5",
]


def test_a_teacher_is_shared_by_everything_that_asks_for_the_same():
    config = copy.deepcopy(CONFIG)
    config["experiments"]["again"] = with_student(time_steps=2)["experiments"]["digits"]
    plan = build_plan(parse_config(config))
    teachers = {row.model for row in plan.rows if row.method == "teacher"}
    assert len(teachers) == 2
    assert len([r for r in plan.rows if r.method == "teacher"]) == 3


def test_what_changes_a_student_changes_its_id_and_not_the_teachers():
    before = {row.method: row.model for row in build_plan(parse_config(CONFIG)).rows if row.experiment == "digits"}
    after = {
        row.method: row.model
        for row in build_plan(parse_config(with_student(neuron={"decay": 0.25}))).rows
        if row.experiment == "digits"
    }
    assert before["teacher"] == after["teacher"]
    assert before["kd"] != after["kd"]
    assert before["tet"] != after["tet"]


def test_a_spec_survives_its_journey_as_json():
    for spec in build_plan(parse_config(CONFIG)).stages.values():
        assert parse_spec(spec.model_dump_json()) == spec
    with pytest.raises(ConfigError, match="not a stage spec"):
        parse_spec('{"stage": "teacher"}')


def test_stages_are_found_by_the_beginning_of_their_name():
    plan = build_plan(parse_config(CONFIG))
    assert plan.find("digits-resnet8-kd-seed1").seed == 1
    with pytest.raises(ConfigError, match="fits 2 stages"):
        plan.find("digits-resnet8-kd")
    with pytest.raises(ConfigError, match="unknown stage"):
        plan.find("cifar")
