"""A job that gets a GPU which it cannot use says so instead of training on the CPU. GPUs of the test cluster are mere names."""

import pytest
import torch

from slurm_lab.running import run
from tests.workflow.project import copy_project

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the GPUs of this machine work")


def test_a_stage_with_a_gpu_that_it_cannot_use_fails_and_the_doctor_knows_before(slurm_cluster, tmp_path):
    folder = copy_project(tmp_path)
    profile = folder / "cluster/config.yaml"
    profile.write_text(profile.read_text().replace("  #  gpus_per_node: 4\n", "    gpus_per_node: 1\n", 1))
    done = run(folder, "spikedistill", "doctor", **slurm_cluster.environment)
    assert done.returncode == 1
    assert "a job with a GPU (gpu:1, for teacher) cannot use it: " in done.stdout, done.stdout
    command = ["spikedistill", "submit", "digits-resnet8-seed0", "--with-upstream", "--wait"]
    done = run(folder, *command, **slurm_cluster.environment)
    assert done.returncode == 1, done.stdout
    (log,) = (folder / "logs/teacher").glob("*.log")
    assert "the job requested 1 GPU per node, and torch can use none: " in log.read_text()
    assert not list((folder / "store").glob("teachers/*/manifest.json"))
