"""Teachers from elsewhere on real digits: torchvision's and timm's, imported and fine-tuned, up to the report."""

import csv
import json
import re

import pytest
import torch
import yaml

from slurm_lab.running import run
from tests.workflow.project import copy_project

pytestmark = pytest.mark.slow

TRAIN = {"epochs": 1, "batch_size": 64, "lr": 0.05}
STUDENT = {"arch": "resnet8", "time_steps": 2, "train": TRAIN}


def experiment(teacher, methods):
    return {"dataset": {"name": "digits"}, "teacher": teacher, "student": STUDENT, "methods": methods}


def configuration(folder):
    inputs = {"size": 32}
    vision = {"arch": "torchvision/resnet18", "weights": str(folder / "resnet18.pth"), "inputs": inputs}
    return {
        "experiments": {
            "imported": experiment(vision, {"kd": {}, "ckdsnn": {}}),
            "tuned": experiment(
                {"arch": "timm/resnet10t", "weights": "it's $HOME.pt", "inputs": inputs, "train": TRAIN}, {"kd": {}}
            ),
        }
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    timm, torchvision = pytest.importorskip("timm"), pytest.importorskip("torchvision")
    folder = copy_project(tmp_path_factory.mktemp("teachers"))
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18(num_classes=10).state_dict(), folder / "resnet18.pth")
    torch.save({"state_dict": timm.create_model("resnet10t", num_classes=21).state_dict()}, folder / "it's $HOME.pt")
    (folder / "config.yaml").write_text(yaml.safe_dump(configuration(folder)))
    done = run(folder, "snakemake", "--profile", "cluster/local")
    assert done.returncode == 0, done.stdout[-5000:]
    return folder


def manifests(folder, kind):
    return [json.loads(file.read_text()) for file in sorted((folder / "store" / kind).glob("*/manifest.json"))]


def test_students_learn_from_them_and_the_report_says_what_was_imported(finished):
    rows = list(csv.DictReader((finished / "results/results.csv").open()))
    found = {(row["experiment"], row["method"], row["architecture"]) for row in rows}
    assert ("imported", "teacher", "torchvision/resnet18 (imported)") in found
    assert ("tuned", "teacher", "timm/resnet10t") in found
    assert {row["method"] for row in rows if row["experiment"] == "imported"} == {"teacher", "kd", "ckdsnn"}
    facts = {manifest["spec"]["arch"]: manifest["imported"] for manifest in manifests(finished, "teachers")}
    assert facts["torchvision/resnet18"]["new_layers"] == []
    assert facts["timm/resnet10t"]["new_layers"] == ["fc.weight", "fc.bias"]
    assert all(facts[arch]["matched"] == "by name" for arch in facts)


def test_nothing_runs_again_until_a_weights_file_changes(finished):
    again = run(finished, "snakemake", "--profile", "cluster/local", "-n")
    assert "Nothing to be done" in again.stdout
    state = torch.load(finished / "resnet18.pth", weights_only=True)
    state["fc.bias"] += 1
    torch.save(state, finished / "resnet18.pth")
    changed = run(finished, "snakemake", "--profile", "cluster/local", "-n")
    jobs = dict(re.findall(r"^(teacher|distill|evaluate|report|preprocess) +(\d+)$", changed.stdout, re.MULTILINE))
    assert jobs == {"teacher": "1", "distill": "2", "evaluate": "3", "report": "1"}
