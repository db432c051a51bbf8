"""Event recordings in the formats in which they are published, from the user's folders to evaluated students."""

import json
import tarfile

import numpy as np
import pytest
import yaml

from slurm_lab.running import run
from spikedistill.data.datasets import cifar10_dvs, n_caltech101
from tests.event_files import cifar10_dvs_files, gesture_files, n_caltech101_files, n_mnist_files, write_zip
from tests.files import contents, write_files
from tests.workflow.project import copy_project

CALTECH = n_caltech101.CLASS_NAMES
TRAIN = {"epochs": 1, "batch_size": 4}
PARAMS = {"num_frames": 2, "strict": False, "height": 16, "width": 16}
DATASETS = {
    "cifar10-dvs": {"split_by": "time"},
    "dvs128-gesture": {},
    "n-mnist": {"split_by": "duration", "duration_us": 160_000},
    "n-caltech101": {"split": "random42"},
}
SAMPLES = {"cifar10-dvs": (27, 3), "dvs128-gesture": (24, 12), "n-mnist": (20, 10), "n-caltech101": (181, 21)}


def write_datasets(root):
    """What a user may have: class folders with a file manager's leavings, a tar archive, zip archives."""
    write_files(root / "cifar10-dvs", cifar10_dvs_files(cifar10_dvs.CLASS_NAMES, 3))
    write_files(root / "cifar10-dvs", {"airplane/.DS_Store": b"\0", "notes.txt": b"mine"})
    gesture = root / "gesture"
    write_files(gesture, gesture_files({"train": ["user01_led", "user02_lab"], "test": ["user24_led"]}))
    (root / "dvs128-gesture").mkdir()
    with tarfile.open(root / "dvs128-gesture/DvsGesture.tar.gz", "w:gz") as archive:
        archive.add(gesture, "DvsGesture")
    for part, per_class in (("Train", 2), ("Test", 1)):
        write_zip(root / f"n-mnist/{part}.zip", n_mnist_files(part, per_class))
    files = n_caltech101_files(CALTECH, 2)
    write_zip(root / "n-caltech101/Caltech101.zip", {f"Caltech101/{name}": content for name, content in files.items()})


def experiment(root, name):
    return {
        "dataset": {"name": name, "root": str(root / name), "params": {**PARAMS, **DATASETS[name]}},
        "student": {"arch": "resnet8_dvs", "time_steps": 2, "train": TRAIN},
        "methods": {"tet": {}},
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = copy_project(tmp_path_factory.mktemp("events"))
    raw = folder / "raw data"
    write_datasets(raw)
    before = contents(raw)
    config = {"seeds": [0], "experiments": {name: experiment(raw, name) for name in DATASETS}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    ended = run(folder, "snakemake", "--profile", "cluster/local")
    assert ended.returncode == 0, ended.stdout[-5000:]
    assert contents(raw) == before
    return folder


@pytest.mark.parametrize("name", DATASETS)
def test_a_student_is_trained_and_evaluated_on_files_in_the_published_format(done, name):
    [evaluation] = (done / "store/evaluations").glob(f"student-{name}-resnet8_dvs*/evaluation.json")
    num_train, num_test = SAMPLES[name]
    assert json.loads(evaluation.read_text())["num_samples"] == num_test
    [folder] = (done / "store/data").glob(f"{name}-*")
    frames = np.load(folder / "frames.npy", mmap_mode="r")
    assert frames.shape == (num_train + num_test, 2, 2, 16, 16)
    rows = json.loads((folder / "index.json").read_text())["rows"]
    assert frames.sum((1, 2, 3, 4)).tolist() == [row["events"] for row in rows]
    splits = json.loads((folder / "splits.json").read_text())
    assert {split: len(members) for split, members in splits.items()} == {"train": num_train, "test": num_test}


def test_the_store_is_verified_and_a_changed_byte_of_the_frames_is_named(done):
    ok = run(done, "spikedistill", "verify")
    assert ok.returncode == 0, ok.stdout
    [path] = (done / "store/data").glob("n-mnist-*/frames.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    refused = run(done, "spikedistill", "verify")
    assert refused.returncode == 1
    assert f"damaged  data/{path.parent.name}: frames.npy: sha256" in refused.stdout
