"""What a folder says of a dataset is in the plan: ids, problems of the configuration, estimates, what is told."""

import shutil

import pytest

from spikedistill.config.check import parse_config
from spikedistill.data import scan
from spikedistill.errors import ConfigError
from spikedistill.plan.build import build_plan
from spikedistill.plan.estimate import Estimator
from spikedistill.plan.stages import parse_spec
from spikedistill.plan.tables import data_lines
from tests.files import write_files
from tests.recording_files import folder_files
from tests.unit.data.test_image_folder import folder_files as image_files

TRAIN = {"epochs": 1, "batch_size": 4}


def configuration(root, name="event-folder", params=None, arch="resnet8_dvs"):
    dataset = {"name": name, "root": str(root), "params": {"num_frames": 2} if params is None else params}
    student = {"arch": arch, "time_steps": 2, "train": TRAIN}
    return {"experiments": {"own": {"dataset": dataset, "student": student, "methods": {"tet": {}}}}}


@pytest.fixture(autouse=True)
def looked_into_anew():
    scan._scanned.cache_clear()


def data_of(plan):
    return next(spec for ref, spec in plan.stages.items() if ref.startswith("data/"))


def test_equal_folders_have_equal_ids_and_others_do_not(tmp_path):
    one = write_files(tmp_path / "one", folder_files("npz columns"))
    other = tmp_path / "elsewhere/other"
    shutil.copytree(one, other)
    plans = [build_plan(parse_config(configuration(root))) for root in (one, other)]
    assert plans[0].stages.keys() == plans[1].stages.keys()
    assert [plan.raw[data_of(plan).ref] for plan in plans] == [str(one), str(other)]
    (other / "train/left/r0.npz").rename(other / "train/left/r7.npz")
    scan._scanned.cache_clear()
    assert not plans[0].stages.keys() & build_plan(parse_config(configuration(other))).stages.keys()


def test_the_spec_holds_what_was_found_and_is_read_back(tmp_path):
    root = write_files(tmp_path / "raw", folder_files("evt3"))
    spec = data_of(build_plan(parse_config(configuration(root))))
    assert spec.params["sensor"] == {"height": 128, "width": 128}
    assert spec.params["format"] == "raw" and spec.params["samples"] == {"train": 4, "test": 4}
    assert parse_spec(spec.model_dump_json()).ref == spec.ref


def test_what_was_found_is_told_with_the_plan(tmp_path):
    root = write_files(tmp_path / "raw", image_files())
    values = configuration(root, "image-folder", {}, "resnet8")
    plan = build_plan(parse_config(values))
    [line] = data_lines(plan)
    assert line.startswith(f"data: {data_of(plan).ref.partition('/')[2]}: 2 classes (cat, dog), 4 + 4 samples")


def test_costs_are_estimated_from_the_number_of_samples_that_was_found(tmp_path):
    few = write_files(tmp_path / "few", folder_files("npz columns", per_class=1))
    plan = build_plan(parse_config(configuration(few)))
    student = next(spec for ref, spec in plan.stages.items() if ref.startswith("students/"))
    cost = Estimator(plan)(student.ref)
    assert not any("samples" in guess for guess in cost.guessed)
    assert cost.hours < 0.02


@pytest.mark.parametrize(
    ("files", "params", "message"),
    [
        ({}, {}, "experiments.own.dataset: {root}: no samples: expected a folder for each class"),
        ({"a/1.npz": b"PK"}, {"split": {"test": 0.5}}, "experiments.own.dataset: {root}: only the class 'a'"),
        (folder_files("npy table"), {}, "state their order in dataset.params, for instance columns: txyp"),
        (folder_files("bin"), {}, "experiments.own.dataset: {root}/"),
    ],
)
def test_a_folder_that_cannot_be_used_is_a_problem_of_the_configuration(tmp_path, files, params, message):
    root = write_files(tmp_path / "raw", files)
    root.mkdir(exist_ok=True)
    with pytest.raises(ConfigError) as caught:
        parse_config(configuration(root, params={"num_frames": 2, **params}))
    assert message.format(root=root) in str(caught.value)


def test_a_missing_folder_is_the_only_problem(tmp_path):
    with pytest.raises(ConfigError) as caught:
        parse_config(configuration(tmp_path / "none"))
    assert str(caught.value).startswith(
        "1 problem in the configuration:\n  config.yaml: experiments.own.dataset.root: no such folder"
    )


def test_other_problems_are_reported_with_what_the_folder_says(tmp_path):
    root = write_files(tmp_path / "raw", folder_files("npz columns"))
    values = configuration(root)
    values["experiments"]["own"]["student"]["time_steps"] = 7
    with pytest.raises(ConfigError, match="must equal the number of event frames, 2"):
        parse_config(values)


def test_a_root_in_the_home_folder_is_found(tmp_path, monkeypatch):
    write_files(tmp_path / "home/raw", folder_files("npz columns"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    plan = build_plan(parse_config(configuration("~/raw")))
    assert plan.raw[data_of(plan).ref] == str(tmp_path / "home/raw")
