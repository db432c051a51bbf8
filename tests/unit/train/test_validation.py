"""The validation split: drawn once from the training split, measured after each epoch, and the only thing that selects."""

import json
import shutil

import numpy as np
import pytest
import yaml

from spikedistill.cli import main
from spikedistill.config.check import parse_config
from spikedistill.data.store import hold_out, open_store
from spikedistill.errors import ConfigError, DataError
from spikedistill.plan.build import build_plan
from spikedistill.report.collect import collect
from spikedistill.report.sections.ranking import rank_sweeps, ranking_cells
from spikedistill.stages.runner import RunOptions, run_stage
from spikedistill.store.artifacts import Store
from spikedistill.train.tracking import Tracker

TRAIN = {"epochs": 3, "batch_size": 64, "lr": 0.05}


def config(validation=0.1, **train):
    student = {"arch": "resnet8", "time_steps": 2, "train": TRAIN | train}
    experiment = {"dataset": {"name": "digits", "validation": validation}, "student": student, "methods": {"ce": {}}}
    return {"experiments": {"one": experiment}}


@pytest.mark.parametrize(("amount", "total"), [(0.1, 100), (0.25, 250), (37, 37), (1, 1), (999, 999), (5000, 1000)])
def test_classes_are_held_out_in_proportion(amount, total):
    labels = np.repeat(np.arange(5), (100, 200, 300, 399, 1))
    chosen = hold_out(labels, amount)
    assert chosen.sum() == total
    exact = np.bincount(labels) * total / len(labels)
    assert np.all(np.abs(np.bincount(labels[chosen], minlength=5) - exact) < 1)
    assert np.array_equal(chosen, hold_out(labels, amount))


def make(root, values):
    store, plan = Store(root / "store"), build_plan(parse_config(values))
    for spec in plan.stages.values():
        run_stage(spec, store, RunOptions(results=root / "results"))
    return store, plan


@pytest.fixture(scope="module")
def best(tmp_path_factory):
    root = tmp_path_factory.mktemp("best")
    return make(root, config(select="best", epochs=4, lr=0.3))


def test_the_splits_are_apart_and_the_test_split_stays(best):
    store, plan = best
    data = open_store(store.path(next(iter(plan.stages))))
    held = data.with_validation(0.1)
    train, validation = set(held.split("train").tolist()), set(held.split("validation").tolist())
    assert not train & validation
    assert train | validation == set(data.split("train").tolist())
    assert np.array_equal(held.split("test"), data.split("test"))
    assert data.with_validation(0) is data


def test_metrics_hold_it_and_the_best_network_is_kept(best):
    store, plan = best
    (row,) = plan.rows
    lines = (store.path(row.model) / "metrics.jsonl").read_text().splitlines()
    accuracies = [json.loads(line)["validation/accuracy(%)"] for line in lines]
    assert len(accuracies) == 4
    assert all(json.loads(line)["validation/loss"] > 0 for line in lines)
    evaluation = json.loads((store.path(row.evaluation) / "evaluation.json").read_text())
    assert 100 * evaluation["validation"]["accuracy"] == pytest.approx(max(accuracies))


def test_a_split_that_leaves_a_class_empty_is_refused_with_its_name(best):
    store, plan = best
    data = open_store(store.path(next(iter(plan.stages))))
    with pytest.raises(DataError, match=r"validation 3 leaves no sample of class .* in the validation split; the training"):
        data.with_validation(3)
    with pytest.raises(DataError, match=r"leaves no sample of class 0, 1, .* in the train split"):
        data.with_validation(len(data.split("train")))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (config(validation=0, select="best"), "one.student.train.select: best is chosen by the validation split"),
        (config(validation=1.5), "one.dataset.validation: a share below 1, or a whole number of samples; found 1.5"),
        (config(validation=-1), "one.dataset.validation: input should be greater than or equal to 0"),
        (config(select="test"), "one.student.train.select: input should be 'last' or 'best'"),
    ],
)
def test_what_cannot_select_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(values)


def test_no_validation_split_changes_no_id():
    values = config()
    del values["experiments"]["one"]["dataset"]["validation"]
    assert list(build_plan(parse_config(values)).stages) == list(build_plan(parse_config(config(validation=0))).stages)
    without, held_out = (list(build_plan(parse_config(each)).stages) for each in (values, config()))
    assert without[0] == held_out[0]  # the data is the same; networks are not
    assert not set(without[1:]) & set(held_out[1:])


@pytest.mark.slow
def test_a_sweep_is_ranked_by_validation_whatever_the_labels_of_the_test_split(tmp_path, monkeypatch, capsys):
    values = config(epochs=1, lr=[0.001, 0.01, 0.05, 0.1, 0.2, 0.4], momentum=[0.0, 0.9])
    values["experiments"]["one"]["student"]["time_steps"] = 1
    tables = []
    for name in ("true", "shuffled"):
        root = tmp_path / name
        root.mkdir()
        monkeypatch.chdir(root)
        (root / "config.yaml").write_text(yaml.safe_dump(values))
        store, plan = Store("store"), build_plan(parse_config(values))
        for at, spec in enumerate(plan.stages.values()):
            run_stage(spec, store, RunOptions())
            if at == 0 and name == "shuffled":
                shuffle_test_labels(store, spec)
        assert main(["sweep", "best"]) == 0
        tables.append(ranking_cells(rank_sweeps(collect(plan, store).records)))
        assert tables[-1][0][1] in capsys.readouterr().out
    true, shuffled = tables
    assert len(true) == 12
    assert [row[:4] for row in true] == [row[:4] for row in shuffled]
    assert true[0][4] != shuffled[0][4]
    assert [row[4] for row in true[1:]] == [""] * 11


def shuffle_test_labels(store, spec):
    """Give the test samples of a prepared dataset each other's labels, as a new artifact under the same name."""
    folder = store.path(spec.ref)
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    index = json.loads((kept / "index.json").read_text())
    rows = json.loads((kept / "splits.json").read_text())["test"]
    labels = [index["rows"][row]["label"] for row in rows]
    for row, label in zip(rows, labels[1:] + labels[:1], strict=True):
        index["rows"][row]["label"] = label
    shutil.rmtree(folder)
    with store.building(spec.ref, spec.model_dump(mode="json"), ()) as build:
        for file in kept.iterdir():
            if file.name not in ("manifest.json", ".manifest.json"):
                shutil.copyfile(file, build.folder / file.name)
        (build.folder / "index.json").write_text(json.dumps(index))
        facts = json.loads((kept / "manifest.json").read_text())
        build.provenance.update({key: facts[key] for key in ("created", "wall_s", "world_size", "device", "host")})
    shutil.rmtree(kept)


def test_a_run_that_was_interrupted_keeps_the_same_best_network(best, tmp_path, monkeypatch):
    store, plan = best
    (row,) = plan.rows
    again = Store(tmp_path / "store")
    data, student = plan.with_upstream(plan.stages[row.model])
    run_stage(data, again, RunOptions(results=tmp_path / "results"))
    record = Tracker.record

    def fail_in_the_third_epoch(self, epoch, scalars):
        if epoch == 2:
            raise RuntimeError("the node fails")
        record(self, epoch, scalars)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="the node fails"):
        patch.setattr(Tracker, "record", fail_in_the_third_epoch)
        run_stage(student, again, RunOptions(results=tmp_path / "results"))
    folder = run_stage(student, again, RunOptions(results=tmp_path / "results"))
    weights = (folder / "weights.safetensors").read_bytes()
    assert weights == (store.path(row.model) / "weights.safetensors").read_bytes()
