"""Lists in the configuration that become runs."""

import copy

import jsonschema
import pytest
import yaml
from pydantic import Field

from spikedistill import cli, components
from spikedistill.components import ComponentParams
from spikedistill.config.check import parse_config
from spikedistill.config.schema import config_schema
from spikedistill.errors import ConfigError
from spikedistill.plan.build import build_plan
from spikedistill.plan.estimate import Estimator
from spikedistill.plan.tables import run_table

CONFIG = """
seeds: [0, 1]
experiments:
  one:
    dataset: {name: digits-dvs, params: {num_frames: 2}}
    teacher: {arch: resnet8, train: {epochs: 3, batch_size: 32, lr: 0.1}}
    student: {arch: resnet8, time_steps: 2, train: {epochs: 5, batch_size: 16, lr: 0.1}}
    methods:
      tet: {}
      soft: {method: kd, params: {alpha: 0.5}}
"""


def config(**changes):
    values = yaml.safe_load(CONFIG)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = values["experiments"]["one"]
        for part in parents:
            place = place.setdefault(part, {})
        place[last] = value
    return values


def rows(values):
    plan = build_plan(parse_config(values, source="mine.yaml"))
    return plan, list(dict.fromkeys((row.experiment, row.method) for row in plan.rows))


def test_a_list_of_a_method_becomes_rows_of_the_same_experiment():
    plan, found = rows(config(methods__soft__params={"alpha": [0.5, 1], "temperature": [2.0, 3.0]}))
    assert found == [
        ("one", "teacher"),
        ("one", "tet"),
        *(("one", f"soft[alpha={a},temperature={t}]") for a in ("0.5", "1") for t in ("2.0", "3.0")),
    ]
    params = [plan.stages[row.model].params for row in plan.rows if row.method.startswith("soft") and row.seed == 0]
    assert [(p["alpha"], p["temperature"]) for p in params] == [(0.5, 2.0), (0.5, 3.0), (1.0, 2.0), (1.0, 3.0)]
    assert {plan.stages[row.model].method for row in plan.rows if row.method.startswith("soft")} == {"kd"}


def test_a_list_of_an_experiment_becomes_experiments_that_share_data_and_teacher():
    plan, found = rows(config(student__neuron={"decay": [0.25, 0.5]}, student__train__lr=[0.1, 0.2]))
    experiments = list(dict.fromkeys(experiment for experiment, _ in found))
    assert experiments == [f"one[lr={lr},decay={decay}]" for lr in (0.1, 0.2) for decay in (0.25, 0.5)]
    stages = [spec.stage for spec in plan.stages.values()]
    assert {stage: stages.count(stage) for stage in stages} == {"preprocess": 1, "teacher": 1, "distill": 16, "evaluate": 17}


def test_ids_of_what_is_not_swept_stay():
    single, _ = rows(config())
    wide, _ = rows(config(methods__soft__params={"alpha": [0.5, 0.7]}, student__train__lr=[0.1, 0.2]))
    assert set(single.stages) < set(wide.stages)


def test_a_list_of_one_is_that_value():
    assert rows(config(student__train__lr=[0.1]))[1] == rows(config())[1]
    assert rows(config(student__train__lr=[0.1]))[0].stages == rows(config())[0].stages


def test_lists_that_go_together_are_walked_in_step():
    values = config(dataset__params={"num_frames": [2, 4]}, student__time_steps=[2, 4])
    with pytest.raises(ConfigError, match="must equal the number of event frames"):
        rows(values)
    values["experiments"]["one"]["together"] = [["dataset.params.num_frames", "student.time_steps"]]
    plan, found = rows(values)
    assert [e for e, method in found if method == "tet"] == ["one[num_frames=2,time_steps=2]", "one[num_frames=4,time_steps=4]"]
    assert len([s for s in plan.stages.values() if s.stage == "preprocess"]) == 2
    soft = {"method": "kd", "params": {"alpha": [0.1, 0.2], "temperature": [1.0, 2.0]}, "together": [["alpha", "temperature"]]}
    assert [m for _, m in rows(config(methods__soft=soft))[1] if m.startswith("soft")] == [
        "soft[alpha=0.1,temperature=1.0]",
        "soft[alpha=0.2,temperature=2.0]",
    ]


def test_names_are_as_short_as_they_can_be():
    _, found = rows(config(teacher__train__lr=[0.1, 0.2], student__train__lr=[0.1, 0.2], student__arch=["resnet8", "resnet18"]))
    assert "one[teacher.train.lr=0.2,arch=resnet18,student.train.lr=0.1]" in {experiment for experiment, _ in found}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student__time_steps": []}, "experiments.one.student.time_steps: an empty list sweeps over nothing"),
        ({"student__train__lr": [0.1, 0.1]}, "experiments.one.student.train.lr: each value of a sweep may appear once"),
        ({"student__train__lr": [0.1, -2]}, "experiments.one.student.train.lr: input should be greater than 0; found -2"),
        ({"student__train__lr": [[0.1]]}, "experiments.one.student.train.lr: a sweep is a list of plain values; found [0.1]"),
        ({"methods__soft__params": {"alpha": [1, "x"]}}, "methods.soft.params.alpha: input should be a valid number"),
        ({"methods__soft__params": {"alpha": []}}, "methods.soft.params.alpha: an empty list sweeps over nothing"),
        ({"methods__soft__params": {"alfa": [1, 2]}}, "unknown key 'alfa'. Did you mean 'alpha'?"),
        ({"student__arch": ["resnet8", "resnet9"]}, "experiments.one.student.arch: unknown architecture 'resnet9'"),
        ({"dataset__name": ["digits"]}, "experiments.one.dataset.name: input should be a valid string"),
        ({"student__train": [1]}, "experiments.one.student.train: a section of keys is expected"),
        (
            {"student__train__lr": [0.1, 0.2], "together": [["student.train.lr", "student.time_step"]]},
            "experiments.one.together: unknown swept key 'student.time_step'",
        ),
        (
            {
                "student__train__lr": [0.1, 0.2],
                "teacher__train__lr": [1, 2, 3],
                "together": [["student.train.lr", "teacher.train.lr"]],
            },
            "lists of equal length; found student.train.lr: 2, teacher.train.lr: 3",
        ),
        ({"student__train__lr": [0.5, "0.5"]}, "train.lr: each value of a sweep may appear once; found [0.5, '0.5']"),
        ({"together": "x"}, "experiments.one.together: input should be a valid list"),
        (
            {"teacher__seed": list(range(400)), "student__train__lr": [i + 1 for i in range(400)]},
            "experiments.one: the configuration makes 640000 runs, more than 20000",
        ),
    ],
)
def test_a_sweep_that_makes_no_sense_is_named(changes, message):
    with pytest.raises(ConfigError) as caught:
        rows(config(**changes))
    assert message in str(caught.value)
    assert "[" not in str(caught.value).partition("mine.yaml: ")[2].partition(": ")[0]


def test_a_mistake_beside_a_sweep_is_told_once():
    with pytest.raises(ConfigError, match=r"^1 problem "):
        rows(config(student__train__lr=[0.1, 0.2, 0.3], student__neuron={"decay": 3}))


def test_a_list_that_is_a_value_stays_whole(monkeypatch):
    class Params(ComponentParams):
        exits: list[int] = Field([1])
        weights: tuple[float, ...] | None = None
        alpha: float = 1.0

    monkeypatch.setattr(components.load("distill", "kd"), "Params", Params)
    monkeypatch.setattr(components.load("distill", "kd"), "needs", lambda params: frozenset({"teacher"}))
    plan, found = rows(config(methods__soft__params={"exits": [1, 2], "weights": [0.5], "alpha": [1, 2]}))
    assert [m for _, m in found if m.startswith("soft")] == ["soft[alpha=1]", "soft[alpha=2]"]
    assert next(plan.stages[r.model].params for r in plan.rows if r.method == "soft[alpha=2]")["exits"] == [1, 2]


def test_the_schema_for_editors_takes_lists_where_the_check_does():
    schema = config_schema()
    values = config(student__train__lr=[0.1, 0.2], methods={"kd": {"method": "kd", "params": {"alpha": [1, 2]}}})
    jsonschema.validate(values, schema)
    wrong = copy.deepcopy(values)
    wrong["experiments"]["one"]["student"]["train"]["lr"] = [0.1, "x"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)
    wrong = copy.deepcopy(values)
    wrong["experiments"]["one"]["dataset"]["name"] = ["digits"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)


def test_the_table_has_one_line_per_row_of_the_report(tmp_path, monkeypatch, capsys):
    values = {**config(methods__soft__params={"alpha": [0.5, 1]}), "store": str(tmp_path / "store")}
    plan, found = rows(values)
    lines = run_table(plan, lambda spec: Estimator(plan)(spec.ref)).splitlines()
    assert [tuple(line.split()[:2]) for line in lines[2 : 2 + len(found)]] == found
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["plan", "--table"]) == 0
    assert "soft[alpha=0.5]" in capsys.readouterr().out
