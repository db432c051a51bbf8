"""From a file of a report to what is behind it, and from an artifact both ways: on a store that the stages themselves made."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from spikedistill import cli
from spikedistill.errors import ArtifactError
from spikedistill.report.collect import collect
from spikedistill.report.findings import Findings
from spikedistill.report.page.page import html_page
from spikedistill.report.plots.catalogue import FIGURES
from spikedistill.report.sources import FILE as SOURCES
from spikedistill.report.sources import sources_text
from spikedistill.report.trace import as_text, trace
from spikedistill.report.writer import write_report
from spikedistill.store.artifacts import Store


@pytest.fixture(scope="module")
def reported(trained, tmp_path_factory):
    """The folder of a report on `trained`."""
    out = tmp_path_factory.mktemp("reported")
    write_report(Findings.of(collect(trained.plan, trained.store)), out)
    return out


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of the store, to damage."""
    shutil.copytree(trained.store.root, tmp_path / "store")
    return Store(tmp_path / "store")


def evaluations(trained):
    return {row.method: row.evaluation for row in trained.plan.rows}


def test_a_figure_leads_to_its_artifacts_configuration_and_commits(trained, reported):
    found = trace(str(reported / "accuracy_over_time.svg"), trained.store, reported)
    assert [(run["experiment"], run["method"], run["seed"]) for run in found["runs"]] == [
        ("digits", "teacher", 0),
        ("digits", "kd", 0),
    ]
    kd = found["runs"][1]["evaluation"]
    assert kd["artifact"] == evaluations(trained)["kd"]
    assert kd["digest"] == trained.store.manifest(kd["artifact"])["digest"]
    assert kd["state"] == "ok"
    assert {each["artifact"] for each in kd["upstream"]} == set(trained.store.manifest(kd["artifact"])["upstream"])
    own = trained.store.manifest(kd["artifact"])["spikedistill"]
    assert kd["commit"].startswith(own["commit"] or "not from")
    text = as_text(found)
    for ref in trained.plan.stages:
        assert ref in text
    assert f"key `config` of {reported / SOURCES}" in text
    assert json.loads((reported / SOURCES).read_text())["config"]["experiments"].keys() == {"digits"}


@pytest.mark.parametrize(
    "file",
    [
        *("results.csv", "results.md", "results.tex", "results.html", "tests.csv", "costs.csv", "figures.tex"),
        *(f"{stem}.{ending}" for stem in FIGURES for ending in ("svg", "pdf")),
    ],
)
def test_every_file_of_the_report_can_be_traced(trained, reported, file):
    found = trace(str(reported / file), trained.store, reported)
    assert len(found["runs"]) == (0 if file.startswith(("event_frames", "accuracy_over_sweep")) else 2)
    json.dumps(found)
    assert as_text(found).startswith(str(reported / file))


def test_the_resolved_configuration_is_named_where_snakemake_wrote_it(trained, reported, tmp_path):
    shutil.copytree(reported, tmp_path / "results")
    (tmp_path / "results" / "config.json").write_text("{}")
    found = trace(str(tmp_path / "results" / "results.csv"), trained.store, reported)
    assert found["configuration"] == str(tmp_path / "results" / "config.json")


def test_an_artifact_leads_up_and_down(trained, reported):
    found = trace(trained.teacher, trained.store, reported)
    (data,) = found["upstream"]
    assert data["artifact"].startswith("data/digits")
    assert data["upstream"] == []
    below = {node["artifact"]: node for node in found["downstream"]}
    assert below.keys() == {trained.student, *evaluations(trained).values()}
    assert [node["artifact"] for node in below[trained.student]["downstream"]] == [evaluations(trained)["kd"]]
    assert str(reported / "accuracy_over_time.svg") in found["shown_in"]
    text = as_text(found)
    assert "made from:" in text
    assert "made of it:" in text
    assert "├─" in text
    evaluation = trace(evaluations(trained)["kd"], trained.store, reported)
    assert "made of it: nothing in this store" in as_text(evaluation)


def test_what_changed_in_the_store_since_the_report_is_told(trained, reported, copied):
    kd = evaluations(trained)["kd"]
    shutil.rmtree(copied.path(trained.teacher))
    manifest = copied.manifest(trained.student)
    copied.manifest_path(trained.student).write_text(json.dumps(manifest | {"digest": "0" * 64}))
    for file in copied.path(kd).glob("*.json"):
        if file.name != "manifest.json":
            file.write_text("short")
    text = as_text(trace(str(reported / "results.csv"), copied, reported))
    lines = {ref: next(line for line in text.splitlines() if ref in line) for ref in (kd, trained.student, trained.teacher)}
    assert "not in the store any more" in lines[trained.teacher]
    assert "another one is in the store now" in lines[trained.student]
    assert "damaged: " in lines[kd]
    up = as_text(trace(kd, copied, reported))
    assert f"{trained.teacher}  (not in this store)" in up
    assert "another one is in the store now" in up


def test_what_is_not_there_is_told(trained, reported, tmp_path):
    with pytest.raises(ArtifactError, match="no such file"):
        trace(str(tmp_path / "results.csv"), trained.store, reported)
    (tmp_path / "results.csv").touch()
    with pytest.raises(ArtifactError, match=r"sources\.json: not there.*spikedistill report"):
        trace(str(tmp_path / "results.csv"), trained.store, reported)
    (tmp_path / SOURCES).write_text("[]")
    with pytest.raises(ArtifactError, match="does not hold the sources"):
        trace(str(tmp_path / "results.csv"), trained.store, reported)
    (tmp_path / SOURCES).write_text("{")
    with pytest.raises(ArtifactError, match="cannot be read"):
        trace(str(tmp_path / "results.csv"), trained.store, reported)
    shutil.copy(reported / SOURCES, tmp_path)
    (tmp_path / "mine.csv").touch()
    with pytest.raises(ArtifactError, match=r"not a file of the report.*results\.csv"):
        trace(str(tmp_path / "mine.csv"), trained.store, reported)
    with pytest.raises(ArtifactError, match="unknown artifact"):
        trace("teachers/nobody", trained.store, reported)


def test_a_run_that_did_not_finish_is_behind_no_file(make):
    records = [make.student("kd", 0, 0.9), make.missing_student("kd", 1)]
    sources = json.loads(sources_text(make.comparison(records), ["results.csv"]))
    assert [run["seed"] for run in sources["runs"]] == [0]


def test_figures_of_single_runs_name_these(make):
    records = [
        make.student("tet", 1, 0.9),
        make.student("tet", 0, 0.9),
        make.student("kd", 0, 0.9, experiment="digits-dvs"),
        make.student("kd", 1, 0.9, experiment="digits-dvs"),
    ]
    assert records[2].examples["samples"].ndim == 5
    assert isinstance(records[0].examples["labels"], np.ndarray)
    files = json.loads(sources_text(make.comparison(records), [f"{stem}.svg" for stem in FIGURES]))["files"]
    assert files["saliency_maps.svg"] == [1, 2]
    assert files["event_frames.svg"] == [2]
    assert files["firing_rates.svg"] == "all"


def test_the_figure_of_a_sweep_names_the_runs_that_are_measured_so_far(make):
    finished = make.student("kd", 0, 0.9, experiment="digits[time_steps=2]")
    missing = dataclasses.replace(make.missing_student("kd", 0), experiment="digits[time_steps=4]")
    files = json.loads(sources_text(make.comparison([finished, missing]), ["accuracy_over_sweep.svg"]))["files"]
    assert files["accuracy_over_sweep.svg"] == [0]


def test_every_row_of_the_page_names_its_artifacts_and_commit(trained):
    page = html_page(Findings.of(collect(trained.plan, trained.store)), {})
    for ref in trained.plan.stages:
        assert ref.partition("/")[2] in page
    assert "spikedistill trace NAME" in page


def test_the_command_line(trained, reported, capsys, caplog):
    store = ["--store", str(trained.store.root), "--results", str(reported)]
    assert cli.main(["trace", str(reported / "results.csv"), *store]) == 0
    assert trained.student in capsys.readouterr().out
    assert cli.main(["trace", trained.student, "--json", *store]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["spec"]["method"] == "kd"
    assert cli.main(["trace", "no/such.svg", *store]) == 1
    assert "no such file" in caplog.text
