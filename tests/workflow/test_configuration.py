"""The workflow and the command line plan the same stages, with the same ids, for the same files and overrides."""

import json
import re

import pytest

from slurm_lab.running import run
from tests.workflow.project import copy_project

MORE = "experiments: {digits: {student: {train: {epochs: 3}}}}"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = copy_project(tmp_path_factory.mktemp("configuration"))
    (folder / "more.yaml").write_text(MORE)
    (folder / "twice.yaml").write_text("seeds: [0]\nseeds: [1]\n")
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--config", "seeds=[3, 4]", "rehearse=true"),
        ("--config", f"experiments={MORE.partition(': ')[2]}"),
        ("--configfile", "config.yaml", "more.yaml"),
        ("--configfile", "config.yaml", "--config", "experiments={digits-dvs: {student: {neuron: {decay: 0.25}}}}"),
    ],
    ids=lambda arguments: " ".join(arguments) or "config.yaml",
)
def test_both_plan_the_same(project, arguments):
    listed = run(project, "spikedistill", "plan", "--json", *arguments)
    assert listed.returncode == 0, listed.stdout
    planned = run(project, "spikedistill", "plan", *arguments).stdout
    names = set(re.findall(r"^(?:preprocess|teacher|distill|evaluate) +(\S+)", planned, re.MULTILINE))
    assert len(names) == len(listed.stdout.splitlines())
    dry = run(project, "snakemake", "-n", *arguments)
    assert dry.returncode == 0, dry.stdout
    assert set(re.findall(r"Missing output files: store/\w+/(\S+)/manifest\.json", dry.stdout)) == names


def test_a_teacher_keeps_its_epochs_when_the_student_s_are_overridden(project):
    listed = run(project, "spikedistill", "plan", "--json", "--configfile", "config.yaml", "more.yaml")
    specs = [json.loads(line) for line in listed.stdout.splitlines()]
    found = {(spec["stage"], spec["train"]["epochs"]) for spec in specs if spec.get("train") and spec["dataset"] == "digits"}
    assert found == {("teacher", 12), ("distill", 3)}


@pytest.mark.parametrize("command", [("spikedistill", "plan"), ("snakemake", "-n")])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--config", "seeds=["), "--config seeds, line 1: expected the node content"),
        (("--config", "sedes=[1]"), "config.yaml: sedes: unknown key 'sedes'. Did you mean 'seeds'?"),
    ],
)
def test_a_mistake_is_told_the_same_without_a_traceback(project, command, arguments, message):
    done = run(project, *command, *arguments)
    assert done.returncode == 1
    assert message in done.stdout
    assert "Traceback" not in done.stdout


def test_duplicate_keys_of_a_file_are_told(project):
    done = run(project, "spikedistill", "plan", "--configfile", "twice.yaml")
    assert done.returncode == 1
    assert "twice.yaml, line 2: key 'seeds' appears twice, in line 1 and line 2; keep one" in done.stdout
    (project / "config.yaml").rename(project / "kept.yaml")
    try:
        (project / "config.yaml").write_text("seeds: [0]\nseeds: [1]\n")
        done = run(project, "snakemake", "-n")
    finally:
        (project / "kept.yaml").rename(project / "config.yaml")
    assert "config.yaml, line 2: key 'seeds' appears twice" in done.stdout
