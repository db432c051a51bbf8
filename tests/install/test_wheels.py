"""Both wheels, built and installed outside the checkout: what a user of a package has, without the source tree.

What they depend on (torch above all, several GB) comes from the environment of the tests, by a path file; `make test` has
installed it there from the same metadata.
"""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from slurm_lab.running import run
from tests.workflow.project import ROOT, copy_project

PLUGIN = ROOT / "src" / "snakemake-executor-plugin-submitit"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheels")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out)]
    subprocess.run([*build, str(ROOT), str(PLUGIN)], check=True)
    return sorted(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheels, tmp_path_factory):
    """The python of an environment with both wheels and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder, symlinks=True, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(folder), "install", "--quiet", "--no-deps", *map(str, wheels)], check=True
    )
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


@pytest.fixture
def project(tmp_path):
    """The files of the workflow, as somebody copies them who has the packages from an index."""
    return copy_project(tmp_path / "project")


def test_they_hold_everything_but_the_tests(wheels):
    names = {name for wheel in wheels for name in zipfile.ZipFile(wheel).namelist()}
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "src"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    shipped = {path.removeprefix("src/").removeprefix("snakemake-executor-plugin-submitit/") for path in tracked}
    packages = ("spikedistill/", "snakemake_executor_plugin_submitit/")
    assert {name for name in shipped if name.startswith(packages)} == {name for name in names if name.startswith(packages)}


def test_the_packages_are_those_of_the_wheels(installed, tmp_path):
    program = "import spikedistill, snakemake_executor_plugin_submitit as p; print(spikedistill.__file__, p.__file__)"
    done = run(tmp_path, str(installed), "-c", program)
    assert done.returncode == 0, done.stdout
    assert all(Path(file).is_relative_to(installed.parents[1]) for file in done.stdout.split())


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("plan",), "22 stages: 0 cached in store, 22 to run"),
        (("list", "methods"), "sealkd"),
        (("list", "datasets"), "cifar10-dvs"),
        (("list", "architectures"), "resnet8"),
        (("schema", "--docs"), "# Configuration"),
        (("doctor", "--profile", "cluster/local"), "config: 22 stages"),
    ],
)
def test_the_command_line_works(installed, project, command, expected):
    done = run(project, str(installed.with_name("spikedistill")), *command)
    assert done.returncode == 0, done.stdout
    assert expected in done.stdout


def test_the_shipped_workflow_is_planned(installed, project):
    done = run(project, str(installed), "-m", "snakemake", "-n", "--profile", "cluster")
    assert done.returncode == 0, done.stdout
    assert "22 stages: 0 cached in store, 22 to run" in done.stdout
