"""`spikedistill submit --dry-run` on a real Slurm: the scripts that it prints are accepted, and nothing is submitted."""

import pytest
import yaml

from slurm_lab.running import run

pytestmark = pytest.mark.slow
CONFIG = {
    "experiments": {
        "digits": {
            "dataset": {"name": "digits"},
            "student": {"arch": "resnet8", "time_steps": 2, "train": {"epochs": 1, "batch_size": 64}},
            "methods": {"ce": {}},
        }
    }
}


def test_the_scripts_are_those_of_the_jobs_and_nothing_is_submitted(slurm_cluster, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    names = ["digits-resnet8-ce", "--with-upstream", "--cluster", "slurm"]
    command = ["spikedistill", "submit", *names, "--set", "mem_mb=900", "nodes=2"]
    shown = run(tmp_path, *command, "--dry-run", **slurm_cluster.environment)
    assert shown.returncode == 0, shown.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["config.yaml"]
    queue = run(tmp_path, "squeue", "--noheader", **slurm_cluster.environment)
    assert queue.stdout.strip() == ""

    preprocess, distill = ("#!/bin/bash" + part.partition("\n\ncommand:")[0] for part in shown.stdout.split("#!/bin/bash")[1:])
    assert "#SBATCH --mem=900MB" in distill and "#SBATCH --nodes=2" in distill
    assert "#SBATCH --nodes=1" in preprocess and "--dependency" not in preprocess
    assert "#SBATCH --dependency='afterok:<job of digits-" in distill
    alone = "\n".join(line for line in distill.splitlines() if "-dep" not in line)
    for script in (preprocess, alone):
        (tmp_path / "job.sh").write_text(script + "\n")
        accepted = run(tmp_path, "sbatch", "--test-only", "job.sh", **slurm_cluster.environment)
        assert accepted.returncode == 0, accepted.stdout
