"""The DAG of config.yaml on a real Slurm cluster, students trained on 2 nodes x 2 ranks."""

import json
from pathlib import Path

import yaml

from slurm_lab.running import run
from tests.workflow.project import copy_project

TWO_BY_TWO = ["--set-resources", "distill:nodes=2", "distill:tasks_per_node=2", "distill:cpus_per_task=1"]


def shorten(folder):
    """Of the demo one dataset, method, seed and epoch: what is shown here is where stages run, not how well they learn."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["seeds"] = [0]
    experiment = config["experiments"]["digits"]
    del experiment["methods"]["tet"]
    for role in ("teacher", "student"):
        experiment[role]["train"] |= {"epochs": 1, "warmup_epochs": 0}
    config["experiments"] = {"digits": experiment}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def test_the_demo_dag_runs_on_slurm_and_single_stages_have_the_same_ids(slurm_cluster, tmp_path):
    folder = copy_project(tmp_path / "dag")
    shorten(folder)
    done = run(folder, "snakemake", "--profile", "cluster", *TWO_BY_TWO, **slurm_cluster.environment)
    assert done.returncode == 0, done.stdout[-5000:]
    assert (folder / "results/results.md").exists()
    contents = [json.loads(manifest.read_text()) for manifest in folder.glob("store/*/*/manifest.json")]
    assert len(contents) == 5
    jobs = slurm_cluster.completed_jobs([content["slurm_job_id"] for content in contents])
    for content in contents:
        stage, job = content["spec"]["stage"], jobs[content["slurm_job_id"]]
        assert stage in job["JobName"]
        assert (job["NNodes"], content["world_size"]) == (("2", 4) if stage == "distill" else ("1", 1))
    check_single_stage(slurm_cluster, folder, tmp_path)


def check_single_stage(slurm_cluster, folder: Path, tmp_path: Path) -> None:
    student = next(folder.glob("store/students/digits-resnet8-kd-seed0-*")).name
    other = copy_project(tmp_path / "single")
    shorten(other)
    two_nodes = ["--set", "nodes=2", "cpus_per_task=1"]
    command = ["spikedistill", "submit", student, "--with-upstream", "--wait", *two_nodes]
    done = run(other, *command, **slurm_cluster.environment)
    assert done.returncode == 0, done.stdout
    assert (other / "store/students" / student / "manifest.json").exists()


def test_the_doctor_finds_slurm_well_and_names_a_partition_that_is_not_there(slurm_cluster, tmp_path):
    folder = copy_project(tmp_path)
    done = run(folder, "spikedistill", "doctor", **slurm_cluster.environment)
    assert done.returncode == 0, done.stdout
    assert "a job on a node sees this environment" in done.stdout
    profile = (folder / "cluster/config.yaml").read_text()
    (folder / "cluster/config.yaml").write_text(profile.replace("# slurm_partition: gpu", "slurm_partition: nowhere"))
    done = run(folder, "spikedistill", "doctor", **slurm_cluster.environment)
    assert done.returncode == 1
    assert "no partition nowhere" in done.stdout
    assert "main, other" in done.stdout
