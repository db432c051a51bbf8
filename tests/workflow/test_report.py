"""The report of a run in which one student fails: it is built all the same, says so, and a browser can read it."""

import re

import pytest
import yaml

from slurm_lab.running import run
from tests.browser import browse
from tests.workflow.project import copy_project

TRAIN = {"epochs": 1, "batch_size": 64}
CONFIG = {
    "seeds": [0, 1],
    "experiments": {
        "digits": {
            "dataset": {"name": "digits"},
            "teacher": {"arch": "resnet8", "train": TRAIN},
            "student": {"arch": "resnet8", "time_steps": 2, "train": TRAIN},
            "methods": {"tet": {}, "broken": {"method": "kd", "params": {"alpha": 1e39}}},
        }
    },
}


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """A project in which all ran but the students of one method; with the output of that run."""
    folder = copy_project(tmp_path_factory.mktemp("failed"))
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    done = run(folder, "snakemake", "--profile", "cluster/local")
    assert done.returncode != 0
    html = run(folder, "snakemake", "--report", "report.html")
    assert html.returncode == 0, html.stdout[-3000:]
    return folder, done.stdout


def test_a_failed_student_has_a_row_that_says_so_and_the_others_are_measured(failed):
    folder, output = failed
    table = (folder / "results/results.md").read_text()
    assert re.search(r"\| digits +\| broken +\|.* missing \|.*0 \(2 missing\)", table)
    assert re.search(r"Missing: digits, broken: seed 1: distill digits-resnet8-kd-seed1-\w+ failed: .*loss", table)
    assert re.search(r"\| digits +\| tet +\|.*± .*baseline.*\| +2 \|", table)
    assert table.splitlines()[0].split("|")[1].strip() == "experiment"
    assert "missing: digits, broken, seed 0" in output  # the table is shown at the end
    costs = (folder / "results/costs.csv").read_text()
    assert len(re.findall(r"^distill,.*,done,", costs, re.MULTILINE)) == 2
    assert len(re.findall(r"^distill,.*interrupted", costs, re.MULTILINE)) == 2
    assert "saliency_maps" in (folder / "report.html").read_text()


def test_a_browser_draws_every_figure(failed):
    folder, _ = failed
    seen = browse(folder, "results/results.html", RESULTS_SCRIPT)
    assert len(seen["widths"]) >= 9
    assert min(seen["widths"]) > 100
    assert seen["loaded"] == []


def test_a_browser_shows_the_report_of_snakemake_with_its_categories(failed):
    folder, _ = failed
    seen = browse(folder, "report.html", SNAKEMAKE_SCRIPT)
    for category in ("Results", "Figures", "Pictures", "Cost"):
        assert category in seen["menu"]
    assert "accuracy against energy" in seen["figures"]
    assert seen["loaded"] == []


def test_without_the_failed_method_only_the_report_is_made_again(failed):
    folder, _ = failed
    config = CONFIG | {"experiments": {"digits": CONFIG["experiments"]["digits"] | {"methods": {"tet": {}}}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    planned = run(folder, "snakemake", "-n", "--rerun-triggers", "mtime", "input").stdout
    table = re.findall(r"^(preprocess|teacher|distill|evaluate|report)\s+(\d+)$", planned, re.MULTILINE)
    assert set(table) == {("report", "1")}
    done = run(folder, "snakemake", "--profile", "cluster/local")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "broken" not in (folder / "results/results.md").read_text()


RESULTS_SCRIPT = """
const images = [...page.querySelectorAll("img")];
await Promise.all(images.map(image => image.decode()));
return {widths: images.map(image => image.naturalWidth)};
"""
SNAKEMAKE_SCRIPT = """
const until = async test => { while (!test()) await new Promise(done => setTimeout(done, 50)); };
const link = text => [...page.querySelectorAll("span")].find(each => each.textContent.trim() === text);
await until(() => link("Figures"));
const menu = page.body.innerText;
link("Figures").click();
await until(() => page.body.innerText.includes("accuracy against energy"));
return {menu: menu, figures: page.body.innerText};
"""
