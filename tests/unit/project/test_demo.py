"""`spikedistill demo` runs in an empty folder, and goes on in the project that it made; nowhere else."""

import sys
from pathlib import Path

import pytest

from spikedistill.cli import main
from spikedistill.project import demo
from spikedistill.project.create import create_project


@pytest.fixture
def started(tmp_path, monkeypatch):
    """The commands that the demo starts, which are not run; each ends with status 3."""
    commands = []

    def snakemake(folder, *arguments):
        commands.append((folder, *arguments))
        return 3

    monkeypatch.setattr(demo, "_snakemake", snakemake)
    monkeypatch.chdir(tmp_path)
    return commands


def test_in_an_empty_folder_it_makes_the_project_and_again_goes_on_with_it(started):
    for _ in range(2):
        assert main(["demo"]) == 3
    assert started == [(Path(), "--profile", "cluster/local")] * 2
    assert Path("config.yaml").is_file()


def test_an_environment_in_the_folder_is_no_obstacle(started):
    Path(".venv").mkdir()
    assert main(["demo"]) == 3
    assert Path("Snakefile").is_file()


def test_it_runs_nothing_in_a_folder_that_holds_something_else(started, caplog):
    Path("thesis.tex").write_text("mine")
    assert main(["demo"]) == 1
    assert "is not empty (thesis.tex): name a new folder" in caplog.text
    create_project(Path("own"), "cifar10-sealkd")
    assert main(["demo", "own"]) == 1
    assert "a project of yours runs with `snakemake --profile cluster/local`" in caplog.text
    assert started == []


def test_in_a_checkout_it_runs_the_configuration_there_as_it_was_edited(started, monkeypatch, tmp_path):
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout" / "config.yaml").write_text("edited")
    (tmp_path / "link").symlink_to("checkout")
    monkeypatch.setattr(demo, "ROOT", tmp_path / "link")
    assert main(["demo", "checkout"]) == 3
    assert started == [(Path("checkout"), "--profile", "cluster/local")]
    assert [path.name for path in (tmp_path / "checkout").iterdir()] == ["config.yaml"]


def test_snakemake_is_that_of_this_python_and_finds_its_commands(tmp_path, monkeypatch):
    (tmp_path / "snakemake.py").write_text(
        "import shutil, sys, pathlib\n"
        "pathlib.Path('said').write_text(f'{sys.executable} {shutil.which(\"spikedistill\")} {sys.argv[1:]}')\n"
        "sys.exit(5)\n"
    )
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert demo._snakemake(tmp_path, "--profile", "x y") == 5
    executable, found, arguments = (tmp_path / "said").read_text().split(maxsplit=2)
    assert executable == sys.executable
    assert Path(found) == Path(sys.executable).with_name("spikedistill")
    assert arguments == "['--profile', 'x y']"


def test_verbose_asks_for_the_blocks_of_snakemake(started):
    assert main(["demo", "--verbose"]) == 3
    assert started == [(Path(), "--profile", "cluster/local", "--logger-lines-blocks")]
