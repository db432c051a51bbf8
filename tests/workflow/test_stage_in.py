"""Stages that read the dataset from a copy on the node's own disk."""

import pytest
import yaml

from slurm_lab.running import run
from tests.workflow.project import copy_project

pytestmark = pytest.mark.slow
TRAIN = {"epochs": 1, "batch_size": 64, "lr": 0.05, "warmup_epochs": 0}
STUDENT = {"arch": "resnet8", "time_steps": 1, "train": TRAIN}
CONFIG = {"seeds": [0], "experiments": {"digits": {"dataset": {"name": "digits"}, "student": STUDENT, "methods": {"ce": {}}}}}


def test_training_and_evaluation_read_one_copy_and_give_the_same_result(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir(mode=0o700)
    staged = ("--set-resources", *(f"{rule}:stage_in=data/" for rule in ("distill", "evaluate")))
    manifests = {}
    for name, flags in {"here": (), "there": (*staged, "--submitit-stage-in-folder", str(scratch))}.items():
        folder = copy_project(tmp_path / name)
        (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
        done = run(folder, "snakemake", "--profile", "cluster/local", *flags, "--until", "evaluate")
        assert done.returncode == 0, done.stdout
        manifests[name] = sorted((path.parent.name, path.read_bytes()) for path in folder.glob("store/students/*/*.safetensors"))
        logs = "".join(path.read_text() for path in folder.glob("logs/*/*.log"))
        assert logs.count("is read from its copy") == (2 if flags else 0), logs
    assert manifests["here"] == manifests["there"] != []
    assert len(list(scratch.glob("*/*.json"))) == 1
