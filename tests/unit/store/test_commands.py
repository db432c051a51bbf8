"""`spikedistill store …`: from arguments to what is printed and done."""

import json

import pytest
import yaml

from spikedistill import cli
from spikedistill.config.check import parse_config
from spikedistill.plan.build import build_plan
from spikedistill.store.artifacts import Store

TRAIN = {"epochs": 1, "batch_size": 64}


def config(seeds, store="store"):
    student = {"arch": "resnet8", "time_steps": 2, "train": TRAIN}
    experiment = {
        "dataset": {"name": "digits"},
        "teacher": {"arch": "resnet8", "train": TRAIN},
        "student": student,
        "methods": {"kd": {}},
    }
    return {"store": store, "seeds": seeds, "experiments": {"digits": experiment}}


@pytest.fixture
def project(tmp_path, monkeypatch, put):
    """A folder with two configurations, which share data and teacher, and a store with all that they need and one more."""
    monkeypatch.chdir(tmp_path)
    store = Store("store")
    for file, seeds in (("config.yaml", [0]), ("other.yaml", [1])):
        (tmp_path / file).write_text(yaml.safe_dump(config(seeds)))
        for ref, spec in build_plan(parse_config(config(seeds))).stages.items():
            if store.status(ref) == "missing":
                put(store, ref, spec.upstream.values(), spec=spec.model_dump(mode="json"), days_old=60)
    put(store, "students/nobody-needs-0123456789", days_old=60)
    return store


@pytest.fixture
def run(capsys, caplog):
    """Function that runs `spikedistill store …`; returns the status, what it prints, and its error."""

    def run(*arguments):
        caplog.clear()  # where errors go while pytest handles logs
        return cli.main(["store", *arguments]), capsys.readouterr().out, caplog.text

    return run


def test_ls_shows_who_needs_what(project, run):
    status, out, _ = run("ls", "--for", "other.yaml")
    lines = {line.split()[0]: line for line in out.splitlines() if "/" in line.split(" ")[0]}
    assert status == 0
    assert len(lines) == 8
    assert "config.yaml, other.yaml" in next(line for ref, line in lines.items() if ref.startswith("data/"))
    assert " - " in lines["students/nobody-needs-0123456789"]
    assert "8 artifacts in store" in out


def test_ls_of_some_and_as_json(project, run):
    _, out, _ = run("ls", "students/", "--json", "--for", "other.yaml")
    found = [json.loads(line) for line in out.splitlines()]
    assert [each["kind"] for each in found] == ["students"] * 3
    assert sorted(each["needed_by"] for each in found) == [[], ["config.yaml"], ["other.yaml"]]
    assert {each["spec"].get("method") for each in found} == {"kd", None}


def test_ls_needs_no_configuration(project, run, tmp_path):
    (tmp_path / "config.yaml").unlink()
    status, out, _ = run("ls", "--store", "store")
    assert status == 0
    assert "8 artifacts" in out
    assert run("ls")[0] == 1


def test_du(project, run):
    status, out, _ = run("du")
    assert status == 0
    assert "students" in out


def test_prune_removes_nothing_without_yes(project, run):
    status, out, _ = run("prune", "--for", "other.yaml")
    assert status == 0
    assert "students/nobody-needs-0123456789" in out
    assert "nothing was removed; with --yes it is" in out
    assert len(project.refs()) == 8
    status, out, _ = run("prune", "--for", "other.yaml", "--yes")
    assert status == 0
    assert "removed: 1 of 1" in out
    assert len(project.refs()) == 7


def test_prune_keeps_what_the_given_configurations_need_only(project, run):
    run("prune", "--yes", "--configfile", "other.yaml")
    needed = set(build_plan(parse_config(config([1]))).stages)
    assert set(project.refs()) == needed


def test_prune_by_age(project, run):
    run("prune", "--yes", "--older-than", "90d")
    assert len(project.refs()) == 8
    status, _, err = run("prune", "--older-than", "soon")
    assert status == 1
    assert "'soon' is no age" in err


def test_prune_without_any_configuration_is_refused(project, run, tmp_path):
    (tmp_path / "config.yaml").unlink()
    status, _, err = run("prune", "--store", "store", "--yes")
    assert status == 1
    assert "--for FILE" in err
    assert len(project.refs()) == 8


def test_a_configuration_with_a_mistake_is_an_error_before_anything_is_removed(project, run, tmp_path):
    (tmp_path / "other.yaml").write_text("seeds: [0]\nexperiment: {}\n")
    status, _, err = run("prune", "--for", "other.yaml", "--yes")
    assert status == 1
    assert "other.yaml" in err
    assert len(project.refs()) == 8


def test_pull_and_push(project, run, tmp_path):
    (student,) = (ref for ref in build_plan(parse_config(config([0]))).stages if ref.startswith("students/"))
    status, out, _ = run("pull", "store", student, "--store", "mine")
    assert status == 0
    assert out.count("copied") == 3
    (tmp_path / "group").mkdir()
    status, out, _ = run("push", "group", student.partition("/")[2], "--store", "mine")
    assert status == 0
    assert Store("group").verify(student) is None
    status, _, err = run("pull", "nowhere", "x", "--store", "mine")
    assert status == 1
    assert "no such folder" in err
