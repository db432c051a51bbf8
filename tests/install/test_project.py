"""A project without a checkout, from the wheels: made, planned, run on this machine, reported; the packages stay as they are."""

import hashlib
import os

import pytest
import yaml

from slurm_lab.running import run
from tests.workflow.test_demo import SMALL

pytestmark = pytest.mark.slow
NAME = 'it\'s a {new} "project"'


def digests(folder):
    """Every file of a folder and its content."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def project(installed, tmp_path_factory):
    """A folder with a project, and a function that runs a command in it with the installed packages."""
    (site,) = installed.parents[1].glob("lib/python*/site-packages")
    before = digests(site)
    path = os.pathsep.join([str(installed.parent), "/usr/bin", "/bin"])

    def go(folder, *command):
        done = run(folder, *command, PATH=path)
        assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout

    folder = tmp_path_factory.mktemp("empty")
    go(folder, "spikedistill", "init", NAME)
    project = folder / NAME
    (project / "config.yaml").write_text(yaml.safe_dump({**SMALL, "plugins": ["./plugins"]}))
    yield lambda *command: go(project, *command), project
    assert digests(site) == before


def test_it_is_planned_run_and_reported_with_the_rules_of_the_package(project):
    go, folder = project
    planned = go("snakemake", "-n", "--profile", "cluster")
    assert "7 stages: 0 cached in store, 7 to run" in planned
    go("snakemake", "--profile", "cluster/local")
    assert "| kd " in (folder / "results" / "results.md").read_text()
    assert "7 stages: 7 cached in store, 0 to run" in go("snakemake", "-n")
    go("snakemake", "--report", "report.html")
    assert "accuracy after t time steps" in (folder / "report.html").read_text()


def test_the_linter_is_content_and_the_conda_environment_is_found(project):
    go, folder = project
    assert "good condition" in go("snakemake", "--lint")
    rules = folder.parent / "rules.txt"
    rules.write_text(go("python", "-c", PROGRAM))
    assert rules.read_text().split("\n")[:2] == ["True", "True"]


PROGRAM = """\
from spikedistill.project.files import ROOT
print((ROOT / "workflow" / "rules" / "../../envs/environment.yaml").is_file())
print((ROOT / "workflow" / "rules" / "../report/results.rst").is_file())
"""
