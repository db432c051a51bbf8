"""One's own data, from a folder to the report: an `event-folder` by Snakemake, the others through their stage."""

import json

import numpy as np
import pytest
import yaml

from slurm_lab.running import run
from tests.event_files import n_mnist_files
from tests.files import contents, write_files
from tests.recording_files import folder_files
from tests.unit.data.test_image_folder import folder_files as image_files
from tests.workflow.project import copy_project

pytestmark = pytest.mark.slow

ODD = ("left", "it's {odd} $(x)")  # names of classes pass through the command line of the jobs
TRAIN = {"epochs": 1, "batch_size": 4}


def experiment(name, root, params, arch, time_steps, **more):
    student = {"arch": arch, "time_steps": time_steps, "train": TRAIN}
    return {"dataset": {"name": name, "root": str(root), "params": params, **more}, "student": student, "methods": {"tet": {}}}


def project(folder, experiments):
    project_ = copy_project(folder)
    (project_ / "config.yaml").write_text(yaml.safe_dump({"seeds": [0], "experiments": experiments}))
    return project_


def test_own_recordings_come_to_the_report(tmp_path):
    raw = write_files(tmp_path / "raw data", folder_files("npz columns", per_class=6, classes=ODD))
    before = contents(raw)
    params = {"num_frames": 2, "height": 16, "width": 16}
    folder = project(tmp_path / "project", {"own": experiment("event-folder", raw, params, "resnet8_dvs", 2)})
    told = run(folder, "spikedistill", "plan")
    assert (
        "2 classes (it's {odd} $(x), left), 12 + 12 samples (to train on: train, to test on: test), npz, sensor 128 x 128"
        in told.stdout
    )
    ended = run(folder, "snakemake", "--profile", "cluster/local")
    assert ended.returncode == 0, ended.stdout[-5000:]
    assert contents(raw) == before
    [evaluation] = (folder / "store/evaluations").glob("student-event-folder-*/evaluation.json")
    assert json.loads(evaluation.read_text())["num_samples"] == 12
    [data] = (folder / "store/data").glob("event-folder-*")
    assert np.load(data / "frames.npy").shape == (24, 2, 2, 16, 16)
    assert list((folder / "results").rglob("*.html"))
    again = run(folder, "snakemake", "--profile", "cluster/local", "--dry-run")
    assert "Nothing to be done" in again.stdout, again.stdout[-3000:]
    write_files(raw, {"train/left/new.npz": before["train/left/r0.npz"][:-1]})
    changed = run(folder, "spikedistill", "plan")
    assert "13 + 12 samples" in changed.stdout and data.name not in changed.stdout


def test_a_folder_that_cannot_be_used_is_a_problem_of_the_configuration(tmp_path):
    raw = write_files(tmp_path / "raw", folder_files("npy table"))
    folder = project(tmp_path / "project", {"own": experiment("event-folder", raw, {"num_frames": 2}, "resnet8_dvs", 2)})
    refused = run(folder, "spikedistill", "plan")
    assert refused.returncode != 0
    assert "experiments.own.dataset: " in refused.stdout and "for instance columns: txyp" in refused.stdout
    assert "Traceback" not in refused.stdout


def test_own_images_and_spikingjellys_frames_are_prepared_by_their_stage(tmp_path):
    pictures = write_files(tmp_path / "pictures", image_files("TIFF", "tif"))
    recordings = write_files(tmp_path / "n-mnist/extract", n_mnist_files("Train", 1) | n_mnist_files("Test", 1)).parent
    experiments = {
        "pictures": experiment("image-folder", pictures, {"side": 8}, "resnet8", 2),
        "frames": experiment("spikingjelly-frames", recordings, {"dataset": "NMNIST", "num_frames": 2}, "resnet8_dvs", 2),
    }
    folder = project(tmp_path / "project", experiments)
    before = contents(tmp_path / "pictures") | contents(recordings)
    for name, file, shape in (
        ("image-folder", "images.npy", (8, 3, 8, 8)),
        ("spikingjelly-frames", "frames.npy", (20, 2, 2, 34, 34)),
    ):
        ended = run(folder, "spikedistill", "run", f"data/{name}")
        assert ended.returncode == 0, ended.stdout[-3000:]
        [data] = (folder / "store/data").glob(f"{name}-*")
        assert np.load(data / file).shape == shape
    assert contents(tmp_path / "pictures") | contents(recordings) == before
