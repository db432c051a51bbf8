"""The store of several workflows: shared, and on a full disk."""

import subprocess
from pathlib import Path

import yaml

from slurm_lab.main_process import Main
from slurm_lab.odd_places import small_disk
from slurm_lab.running import run
from tests.workflow.project import copy_project

TRAIN = {"epochs": 1, "batch_size": 64, "lr": 0.1, "warmup_epochs": 0}
ONE_TEACHER = {
    "seeds": [0],
    "experiments": {
        "digits": {
            "dataset": {"name": "digits"},
            "teacher": {"arch": "resnet8", "train": TRAIN},
            "student": {"arch": "resnet8", "time_steps": 2, "train": TRAIN},
            "methods": {"kd": {"params": {"alpha": 1.0, "temperature": 3.0}}},
        }
    },
}


def project(folder: Path, store: Path) -> Path:
    copy_project(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump(ONE_TEACHER | {"store": str(store)}))
    return folder


def test_a_teacher_that_two_workflows_need_is_trained_once(slurm_cluster, tmp_path):
    store = tmp_path / "store"
    mains = [Main(slurm_cluster, project(tmp_path / name, store), "--until", "teacher") for name in ("one", "two")]
    for main in mains:
        main.succeeds()
    assert len(list(store.glob("teachers/*/manifest.json"))) == 1
    logs = [log.read_text() for main in mains for log in main.folder.glob("logs/teacher/*.log")]
    assert len(logs) == 2
    assert sum("epoch 1/1" in log for log in logs) == 1
    assert sum("is being made by" in log or "is there already" in log for log in logs) == 1


def test_a_full_disk_under_the_store_is_named_and_nothing_half_written_counts(slurm_cluster, tmp_path):
    with small_disk(tmp_path / "disk", "100K") as disk:
        folder = project(tmp_path / "project", disk / "store")
        output = Main(slurm_cluster, folder, "--until", "preprocess").fails()
        assert "No space left on device" in output
        assert "Traceback" not in output
        assert not list(disk.glob("store/data/*"))
        subprocess.run(["mount", "-o", "remount,size=64M", disk], check=True)
        Main(slurm_cluster, folder, "--until", "preprocess").succeeds()
        assert run(folder, "spikedistill", "verify").returncode == 0
