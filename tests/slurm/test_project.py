"""A project without a checkout, with plug-ins of its own, from the wheels, on a real Slurm cluster."""

import json
import os

import pytest
import yaml

from slurm_lab.running import run

pytestmark = pytest.mark.slow
TRAIN = {"epochs": 1, "batch_size": 64}
CONFIG = {
    "plugins": ["./plugins"],
    "seeds": [0],
    "experiments": {
        "bars": {
            "dataset": {"name": "my-bars"},
            "teacher": {"arch": "my-net", "train": TRAIN},
            "student": {"arch": "my-net", "time_steps": 2, "train": TRAIN},
            "methods": {"my-loss": {}},
        }
    },
}


def test_its_jobs_find_the_rules_of_the_package_and_the_plugins_of_the_project(installed, slurm_cluster, tmp_path):
    path = os.pathsep.join([str(installed.parent), os.environ["PATH"], "/usr/sbin", "/sbin"])

    def go(folder, *command):
        done = run(folder, *command, PATH=path, **slurm_cluster.environment)
        assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout

    go(tmp_path, "spikedistill", "init", "a project's folder")
    folder = tmp_path / "a project's folder"
    for kind, name in (("method", "my-loss"), ("dataset", "my-bars"), ("architecture", "my-net")):
        go(folder, "spikedistill", "new", kind, name)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    go(folder, "snakemake", "--profile", "cluster", "--set-resources", "distill:tasks_per_node=2", "distill:cpus_per_task=1")
    assert "| my-loss " in (folder / "results" / "results.md").read_text()
    contents = [json.loads(manifest.read_text()) for manifest in folder.glob("store/*/*/manifest.json")]
    assert len(contents) == 5
    jobs = slurm_cluster.completed_jobs([content["slurm_job_id"] for content in contents])
    assert all(content["spec"]["stage"] in jobs[content["slurm_job_id"]]["JobName"] for content in contents)
    assert "5 stages: 5 cached in store, 0 to run" in go(folder, "snakemake", "-n")
