"""Images in the formats in which they are published, from the user's folders to evaluated students."""

import json

import numpy as np
import pytest
import yaml

from slurm_lab.running import run
from spikedistill.data.formats.imagenet_synsets import SYNSETS
from tests import image_files
from tests.files import contents, write_files
from tests.workflow.project import copy_project

CIFAR = {"crop_padding": 4, "flip": True, "auto_augment": "cifar10", "cutout": 16}
CROPS = {"random_resized_crop": {}, "flip": True, "auto_augment": "imagenet", "cutout": 8}
EXPERIMENTS = {
    "cifar10": {"inputs": {"normalize": "cifar10"}, "augment": CIFAR},
    "cifar100": {"inputs": {"normalize": "cifar100"}, "augment": CIFAR},
    "imagenet": {
        "params": {"side": 36, "storage": "files"},
        "inputs": {"center_crop": 32, "normalize": "imagenet"},
        "augment": CROPS,
    },
    "imagenet-array": {
        "name": "imagenet",
        "params": {"side": 36, "storage": "array"},
        "inputs": {"center_crop": 32},
        "augment": CROPS,
    },
}
SAMPLES = {"cifar10": (100, 20, 10), "cifar100": (200, 100, 100), "imagenet": (24, 12, 3), "imagenet-array": (24, 12, 3)}


def write_datasets(root):
    """What a user may have: an archive, an unpacked folder, the archives of ImageNet, class folders with clutter."""
    packed = image_files.tar_of({f"cifar-10-batches-py/{n}": c for n, c in image_files.cifar10_pickles().items()}, "w:gz")
    write_files(root / "cifar10", {"cifar-10-python.tar.gz": packed})
    write_files(root / "cifar100/cifar-100-python", image_files.cifar100_pickles())
    write_files(root / "imagenet", image_files.imagenet_archives())
    images, classes = image_files.imagenet_val()
    write_files(root / "imagenet-array/train", image_files.imagenet_train())
    write_files(root / "imagenet-array/val", {f"{c}/{n}": image for (n, image), c in zip(images.items(), classes, strict=True)})
    write_files(root / "imagenet-array", {f"train/{SYNSETS[0]}/.DS_Store": b"\0", "notes.txt": b"mine"})


def experiment(root, label):
    entry = EXPERIMENTS[label]
    params = {"strict": False, **entry.get("params", {})}
    dataset = {"name": entry.get("name", label), "root": str(root / label), "params": params, "inputs": entry["inputs"]}
    train = {"epochs": 1, "batch_size": 12, "augment": entry["augment"]}
    return {"dataset": dataset, "student": {"arch": "resnet8", "time_steps": 2, "train": train}, "methods": {"tet": {}}}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = copy_project(tmp_path_factory.mktemp("images"))
    raw = folder / "raw data"
    write_datasets(raw)
    before = contents(raw)
    config = {"seeds": [0], "experiments": {label: experiment(raw, label) for label in EXPERIMENTS}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    ended = run(folder, "snakemake", "--profile", "cluster/local")
    assert ended.returncode == 0, ended.stdout[-5000:]
    assert contents(raw) == before
    return folder


@pytest.mark.parametrize("label", EXPERIMENTS)
def test_a_student_is_trained_and_evaluated_on_files_in_the_published_format(done, label):
    indices = {path.parent: json.loads(path.read_text()) for path in done.glob("store/data/*/index.json")}
    name, params = EXPERIMENTS[label].get("name", label), EXPERIMENTS[label].get("params", {})
    [(folder, index)] = [
        (folder, index)
        for folder, index in indices.items()
        if folder.name.startswith(f"{name}-") and index["recipe"].get("storage") == params.get("storage")
    ]
    num_train, num_test, num_classes = SAMPLES[label]
    side = 32 if name.startswith("cifar") else 36
    assert index["shape"] == [num_train + num_test, 3, side, side] and len(index["class_names"]) == num_classes
    if label != "imagenet":
        assert np.load(folder / "images.npy", mmap_mode="r").shape == tuple(index["shape"])
    splits = json.loads((folder / "splits.json").read_text())
    assert {split: len(members) for split, members in splits.items()} == {"train": num_train, "test": num_test}
    evaluations = [json.loads(path.read_text()) for path in done.glob(f"store/evaluations/student-{name}-*/evaluation.json")]
    assert len(evaluations) == (2 if name == "imagenet" else 1)
    assert all(each["num_samples"] == num_test and each["role"] == "student" for each in evaluations)


def test_a_damaged_download_ends_the_run_with_every_bad_file_named(done):
    bad = done / "raw data/imagenet-array/train" / SYNSETS[1]
    for path in sorted(bad.glob("*.JPEG"))[:2]:
        path.write_bytes(path.read_bytes()[:100])
    config = yaml.safe_load((done / "config.yaml").read_text())
    config["experiments"] = {"imagenet-array": config["experiments"]["imagenet-array"]}
    config["experiments"]["imagenet-array"]["dataset"]["params"]["side"] = 40
    (done / "config.yaml").write_text(yaml.safe_dump(config))
    ended = run(done, "spikedistill", "run", "data/imagenet")
    assert ended.returncode == 1 and "Traceback" not in ended.stdout
    assert "2 of 36 images cannot be used" in ended.stdout
    assert not list(done.glob("store/data/.*"))
