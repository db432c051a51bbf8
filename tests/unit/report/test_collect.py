"""The records of a report: everything of a finished run, and the reason why anything else is missing."""

import json
import shutil

import pytest

from spikedistill import components
from spikedistill.config.check import parse_config
from spikedistill.plan.build import build_plan
from spikedistill.report.collect import collect
from spikedistill.report.published import find_published
from spikedistill.store.artifacts import Store


def test_a_finished_run_has_evaluations_examples_and_costs(trained):
    comparison = collect(trained.plan, trained.store)
    teacher, student = comparison.records
    assert (teacher.role, student.role, teacher.is_baseline, student.is_baseline) == ("teacher", "student", False, True)
    assert not comparison.is_partial
    assert student.evaluation["num_samples"] == 360
    assert student.evaluation["teacher_agreement"] > 0.1
    assert student.examples["samples"].shape[0] == len(student.examples["labels"]) == 6
    assert (student.correct.shape, student.correct.mean()) == ((360,), pytest.approx(student.evaluation["accuracy"]))
    assert student.metrics[0]["epoch"] == 0
    assert {teacher.timed_alone, student.timed_alone} <= {True, False}
    costs = {cost.artifact: cost for cost in comparison.costs}
    assert [cost.stage for cost in costs.values()].count("evaluate") == 2
    assert {cost.state for cost in costs.values()} == {"done"}
    assert {cost.retries for cost in costs.values()} == {0}
    assert costs[student.artifact].wall_s >= student.metrics[0]["time/epoch(s)"]
    assert costs[student.artifact].peak_memory_mib > 50
    assert comparison.config["experiments"]["digits"]["student"]["time_steps"] == 2


def test_missing_and_damaged_artifacts_are_named_and_the_rest_is_reported(trained, tmp_path, monkeypatch):
    shutil.copytree(trained.store.root, tmp_path / "store")
    store = Store(tmp_path / "store")
    monkeypatch.chdir(tmp_path)
    teacher, student = trained.plan.rows
    shutil.rmtree(store.path(student.evaluation))
    weights = store.path(teacher.model) / "metrics.jsonl"
    weights.chmod(0o644)
    weights.write_text(weights.read_text() + " ")
    first, second = collect(trained.plan, store).records
    assert "damaged artifact, not used" in first.problem
    assert "metrics.jsonl" in first.problem
    name = student.evaluation.partition("/")[2]
    assert second.problem == f"evaluate {name} not started"
    log = tmp_path / "logs" / "evaluate" / f"{name}.log"
    log.parent.mkdir(parents=True)
    log.write_text("08:00:00 INFO started\n08:00:01 ERROR no room on the device\n")
    store.work(student.evaluation).mkdir(parents=True)
    (store.work(student.evaluation) / "starts.jsonl").write_text('{"started": "a"}\n{"started": "b"}\n')
    comparison = collect(trained.plan, store)
    assert comparison.is_partial
    assert comparison.records[1].problem == f"evaluate {name} failed: no room on the device"
    (cost,) = (cost for cost in comparison.costs if cost.artifact == name)
    assert (cost.starts, cost.wall_s) == (2, None)


@pytest.mark.parametrize(
    ("chosen", "expected"), [({}, ("b",)), ({"baseline": "c"}, ("c",)), ({"baseline": ["c", "b"]}, ("c", "b"))]
)
def test_baseline_is_the_chosen_method_or_the_first_without_a_teacher(chosen, expected, tmp_path):
    train = {"epochs": 1, "batch_size": 64}
    methods = {"a": {"method": "kd"}, "b": {"method": "tet"}, "c": {"method": "ce"}}
    experiment = {
        "dataset": {"name": "digits"},
        "teacher": {"arch": "resnet8", "train": train},
        "student": {"arch": "resnet8", "time_steps": 2, "train": train},
        "methods": methods,
    }
    plan = build_plan(parse_config({"experiments": {"x": experiment | chosen}}))
    comparison = collect(plan, Store(tmp_path))
    assert [record.method for record in comparison.records if record.is_baseline] == [expected[0]]
    assert comparison.baselines == {"x": expected}


def test_published_results_are_those_of_dataset_and_methods_with_their_source():
    found = find_published("cifar100", frozenset({"tdd", "esd"}))
    figures = {(each.method, each.arch, each.time_steps): each.accuracy for each in found}
    assert figures["tdd", "ResNet-19", 6] == 82.56
    assert figures["esd", "ResNet-18", 6] == 79.54
    assert {each.method for each in found} == {"tdd", "esd"}
    assert all(each.source.startswith(("unconfirmed: ", "a training log")) for each in found)
    assert find_published("digits", frozenset({"tdd"})) == ()
    everything = [
        find_published(name, frozenset(components.names("distill")))
        for name in ("cifar10", "cifar100", "imagenet", "cifar10-dvs")
    ]
    assert all(50 < each.accuracy < 100 for entries in everything for each in entries)
    assert sum(map(len, everything)) == 25


def test_what_was_evaluated_while_another_stage_ran_on_its_host_was_not_alone(trained, tmp_path):
    shutil.copytree(trained.store.root, tmp_path / "store")
    store = Store(tmp_path / "store")
    times = {row.evaluation: (10 * i, 10 * i + 5) for i, row in enumerate(trained.plan.rows)}
    for ref in trained.plan.stages:
        start, end = times.get(ref, (40, 45))
        stay = {"host": "a", "started": f"2026-01-01T00:00:{start:02}+00:00", "created": f"2026-01-01T00:00:{end:02}+00:00"}
        manifest = store.manifest(ref) | stay
        store.manifest_path(ref).write_text(json.dumps(manifest))
    assert [run.timed_alone for run in collect(trained.plan, store).records] == [True, True]
    ref = trained.plan.rows[0].evaluation
    store.manifest_path(ref).write_text(json.dumps(store.manifest(ref) | {"created": "2026-01-01T00:00:11+00:00"}))
    assert [run.timed_alone for run in collect(trained.plan, store).records] == [False, False]
