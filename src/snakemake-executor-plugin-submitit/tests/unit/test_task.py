"""What the task of a rank sets up for its command, and how it describes a failure."""

import os

import pytest

from snakemake_executor_plugin_submitit.job.ranks import Member, describe_failure
from snakemake_executor_plugin_submitit.job.task import CommandTask


@pytest.mark.parametrize(
    ("gpus_per_node", "on_slurm", "given", "visible"),
    [
        (1, True, "SLURM_JOB_GPUS", "0"),
        (0, True, "SLURM_JOB_GPUS", "0"),  # as for gres=shard:2
        (0, True, "SLURM_STEP_GPUS", "0"),
        (0, True, None, ""),
        (0, False, "SLURM_JOB_GPUS", ""),  # those of a Slurm job around the main process
        (1, False, None, "0"),
    ],
)
def test_gpus_are_hidden_from_a_job_that_has_none(gpus_per_node, on_slurm, given, visible, tmp_path, monkeypatch):
    environment = {"PATH": os.defpath, "CUDA_VISIBLE_DEVICES": "0"} | ({given: "3"} if given else {})
    monkeypatch.setattr(os, "environ", environment)
    task = CommandTask("true", str(tmp_path), gpus_per_node=gpus_per_node, cpus_per_task=1)
    task._on_slurm = on_slurm
    task._set_environment(Member(str(tmp_path), rank=0, world_size=1, local_rank=0, node_rank=0, num_nodes=1))
    assert environment["CUDA_VISIBLE_DEVICES"] == visible


@pytest.mark.parametrize(("status", "words"), [(3, "exit status 3"), (-9, "killed by SIGKILL"), (-40, "killed by signal 40")])
def test_a_failure_is_described_whatever_the_signal(status, words):
    assert describe_failure({"status": status}) == words
