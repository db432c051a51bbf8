"""Both wheels, built and installed outside the checkout: what a user of a package has, without the source tree."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from slurm_lab.running import run
from tests.workflow.project import ROOT, copy_project


@pytest.fixture
def project(tmp_path):
    """The files of the workflow, as somebody copies them who has the packages from an index."""
    return copy_project(tmp_path / "project")


WORKFLOW = ["Snakefile", "config.yaml", "workflow", "cluster", "envs"]


def tracked(*places):
    """What git tracks, or would."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *places]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return {name for name in names if (ROOT / name).is_file()}


def test_they_hold_everything_but_the_tests(wheels):
    names = {name for wheel in wheels for name in zipfile.ZipFile(wheel).namelist()}
    shipped = {name.removeprefix("src/").removeprefix("snakemake-executor-plugin-submitit/") for name in tracked("src")}
    shipped |= {f"spikedistill/project/files/{name}" for name in tracked(*WORKFLOW)}
    packages = ("spikedistill/", "snakemake_executor_plugin_submitit/", "snakemake_logger_plugin_lines/")
    assert {name for name in shipped if name.startswith(packages)} == {name for name in names if name.startswith(packages)}


def test_the_packages_are_those_of_the_wheels(installed, tmp_path):
    program = "import spikedistill, snakemake_executor_plugin_submitit as p; print(spikedistill.__file__, p.__file__)"
    done = run(tmp_path, str(installed), "-c", program)
    assert done.returncode == 0, done.stdout
    assert all(Path(file).is_relative_to(installed.parents[1]) for file in done.stdout.split())


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("plan",), "30 stages: 0 cached in store, 30 to run"),
        (("list", "methods"), "sealkd"),
        (("list", "datasets"), "cifar10-dvs"),
        (("list", "architectures"), "resnet8"),
        (("schema", "--docs"), "# Configuration"),
        (("doctor", "--profile", "cluster/local"), "config: 30 stages"),
    ],
)
def test_the_command_line_works(installed, project, command, expected):
    done = run(project, str(installed.with_name("spikedistill")), *command)
    assert done.returncode == 0, done.stdout
    assert expected in done.stdout


def test_the_shipped_workflow_is_planned(installed, project):
    done = run(project, str(installed), "-m", "snakemake", "-n", "--profile", "cluster")
    assert done.returncode == 0, done.stdout
    assert "30 stages: 0 cached in store, 30 to run" in done.stdout


def test_the_container_gets_the_files_that_the_wheel_is_made_of(wheels, tmp_path):
    recipe = (ROOT / "envs/spikedistill.def").read_text()
    for line in recipe.partition("%files\n")[2].partition("\n\n")[0].splitlines():
        source, target = line.split()
        for name in tracked(source):
            file = tmp_path / "root" / target.lstrip("/") / Path(name).relative_to(source)
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, file)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, "."]
    subprocess.run(command, cwd=tmp_path / "root/opt/spikedistill", check=True)
    (made,) = tmp_path.glob("*.whl")
    (ours,) = (wheel for wheel in wheels if wheel.name == made.name)
    assert sorted(zipfile.ZipFile(made).namelist()) == sorted(zipfile.ZipFile(ours).namelist())
