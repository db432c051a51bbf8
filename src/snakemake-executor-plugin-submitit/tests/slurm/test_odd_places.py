"""Folders that others share, that are full, or that have odd names."""

import contextlib
import subprocess
from pathlib import Path

import yaml

from tests.executor.test_local import ODD_NAME, ODD_PLACE
from slurm_lab.running import run
from slurm_lab.main_process import Main, wait_for, write_snakefile
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


def test_a_folder_with_spaces_quotes_and_shell_signs_works(slurm_cluster, tmp_path):
    folder = tmp_path / ODD_NAME
    write_snakefile(folder, ODD_PLACE)
    Main(slurm_cluster, folder, "--config", f"where={folder}").succeeds()
    assert (folder / "out.txt").read_text() == "made\n"


def test_a_folder_that_slurm_would_take_for_a_pattern_is_refused(slurm_cluster, tmp_path):
    write_snakefile(tmp_path, "rule one:\n    output: 'a.txt'\n    shell: 'touch {output}'")
    output = Main(slurm_cluster, tmp_path, "--submitit-folder", "100%jobs").fails()
    assert "Slurm cannot write logs to a path with '%'; use another --submitit-folder" in output


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


@contextlib.contextmanager
def small_disk(path: Path, size: str):
    path.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


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


def test_a_full_disk_under_the_jobs_folder_is_named(slurm_cluster, tmp_path):
    write_snakefile(
        tmp_path,
        """
        rule one:
            output: "a.txt"
            shell: "echo run; while [ ! -e full ]; do sleep 0.2; done; touch {output}"
        """,
    )
    with small_disk(tmp_path / "disk", "1M") as disk:
        main = Main(slurm_cluster, tmp_path, "--submitit-folder", str(disk / "jobs"))
        wait_for(lambda: slurm_cluster.queue_of("one", "%T") == ["RUNNING"], 60, "the job to run")
        subprocess.run(["dd", "if=/dev/zero", f"of={disk / 'filler'}"], capture_output=True)
        (tmp_path / "full").touch()
        output = main.fails(60)
        assert "no space is left" in output
        assert not list(disk.glob("jobs/*/*/.result.json*"))
        (tmp_path / "a.txt").unlink(missing_ok=True)
        assert "No space left on device" in Main(slurm_cluster, tmp_path, "--submitit-folder", str(disk / "jobs")).fails()
