"""Images that two ranks of one job prepare, as a profile asks for."""

import json

import yaml

from slurm_lab.running import run
from tests.preparation import prepared, write_imagenet
from tests.workflow.project import copy_project

PARAMS = {"storage": "packed", "shrink": {"side": 32}}


def test_two_ranks_of_a_job_prepare_what_one_would(tmp_path):
    folder = copy_project(tmp_path / "project")
    raw = write_imagenet(folder / "raw")
    dataset = {"name": "imagenet", "root": "raw", "params": {"strict": False, **PARAMS}}
    student = {"arch": "resnet8", "time_steps": 1, "train": {"epochs": 1, "batch_size": 8}}
    config = {"experiments": {"images": {"dataset": dataset, "student": student, "methods": {"ce": {}}}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    ranks = ("--set-resources", "preprocess:tasks_per_node=2", "preprocess:cpus_per_task=1")
    done = run(folder, "snakemake", "--profile", "cluster/local", *ranks, "--until", "preprocess")
    assert done.returncode == 0, done.stdout + done.stderr
    [made] = folder.glob("store/data/imagenet-*")
    assert json.loads((made / "manifest.json").read_text())["world_size"] == 2
    expected = prepared("imagenet", raw, tmp_path / "alone", **PARAMS)
    assert len(expected) > 10
    for name, content in expected.items():
        assert (made / name).read_bytes() == content, name
    assert run(folder, "spikedistill", "verify").returncode == 0
    assert not list(folder.glob("store/.work/*"))
