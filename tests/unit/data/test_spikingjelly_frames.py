"""`spikingjelly-frames`: frames of SpikingJelly's own datasets, made by its code, without a byte written to the user's folder."""

import numpy as np
import pytest

from spikedistill.data.datasets import cifar10_dvs, n_mnist, spikingjelly_frames
from spikedistill.data.formats.spikingjelly_classes import find_class, names
from spikedistill.data.store import open_store
from spikedistill.errors import DataError
from tests.event_files import cifar10_dvs_files, n_mnist_files, write_zip
from tests.files import contents, write_files

pytestmark = pytest.mark.slow  # imports torch, torchvision and torchaudio


def prepare(raw, component=spikingjelly_frames, name="out", **params):
    out = raw.parent / name
    out.mkdir(exist_ok=True)
    work = raw.parent / "work"
    work.mkdir(exist_ok=True)
    component.prepare(component.Params(num_frames=4, **params), raw=raw, out=out, work=work, num_workers=2)
    return open_store(out)


def refusal(raw, **params):
    with pytest.raises(DataError) as caught:
        prepare(raw, **params)
    return str(caught.value)


def test_a_dataset_with_a_split_has_the_frames_of_our_own_reader(tmp_path):
    raw = tmp_path / "raw"
    write_files(raw / "extract", n_mnist_files("Train", 2) | n_mnist_files("Test", 1))
    before = contents(raw)
    theirs = prepare(raw, dataset="NMNIST")
    ours = prepare(raw, n_mnist, "ours", strict=False)
    assert contents(raw) == before
    assert theirs.class_names == ours.class_names
    assert {split: len(rows) for split, rows in theirs.splits.items()} == {"train": 20, "test": 10}
    for split in ("train", "test"):
        np.testing.assert_array_equal(theirs.take(theirs.split(split)), ours.take(ours.split(split)))
        np.testing.assert_array_equal(theirs.labels[theirs.split(split)], ours.labels[ours.split(split)])


def test_a_dataset_without_a_split_gets_a_drawn_one(tmp_path):
    classes = sorted(cifar10_dvs.CLASS_NAMES)[:3]
    raw = tmp_path / "raw"
    write_files(raw / "extract", cifar10_dvs_files(classes, 4))
    assert "has no split of its own; draw one" in refusal(raw, dataset="CIFAR10DVS")
    store = prepare(raw, dataset="CIFAR10DVS", split={"test": 0.25, "seed": 0})
    assert store.class_names == tuple(classes)
    assert {split: len(rows) for split, rows in store.splits.items()} == {"train": 9, "test": 3}
    assert sorted(store.labels[store.split("test")].tolist()) == [0, 1, 2]


def test_downloads_that_are_missing_or_differ_are_named_and_neither_deleted_nor_fetched(tmp_path):
    raw = tmp_path / "raw"
    write_zip(raw / "download/Train.zip", n_mnist_files("Train", 1))
    classes = [str(digit) for digit in range(10)]
    assert "missing Test.zip; get them from https://" in refusal(raw, dataset="NMNIST", classes=classes)
    write_zip(raw / "download/Test.zip", n_mnist_files("Test", 1))
    before = contents(raw)
    assert "2 of 2 archives are not as published" in refusal(raw, dataset="NMNIST", classes=classes)
    assert contents(raw) == before


def test_what_spikingjelly_fails_at_names_the_folder(tmp_path):
    raw = tmp_path / "raw"
    files = n_mnist_files("Train", 1) | n_mnist_files("Test", 1)
    write_files(raw / "extract", files | {"Train/0/00001.bin": b"\0" * 3})
    assert f"{raw}: SpikingJelly's NMNIST cannot read it: " in refusal(raw, dataset="NMNIST", split_by="time")
    assert "train/0/00001.npz: SpikingJelly made frames without events" in refusal(raw, dataset="NMNIST", split_by="number")


def test_other_classes_than_stated_are_told_as_they_have_to_be_stated(tmp_path):
    raw = tmp_path / "raw"
    write_files(raw / "extract", n_mnist_files("Train", 1) | n_mnist_files("Test", 1))
    assert "state dataset.params.classes: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]" in refusal(raw, dataset="NMNIST", classes=["a", "b"])


def test_a_folder_that_changed_after_planning_is_refused(tmp_path):
    raw = tmp_path / "raw"
    write_files(raw / "extract", n_mnist_files("Train", 1) | n_mnist_files("Test", 1))
    planned = spikingjelly_frames.scan(spikingjelly_frames.Params(dataset="NMNIST"), raw)
    write_files(raw, {"extract/Train/0/more.bin": b""})
    with pytest.raises(DataError, match="not the files that this was planned with"):
        spikingjelly_frames.prepare(planned, raw=raw, out=tmp_path, work=tmp_path, num_workers=1)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"dataset": "NMINST"}, "unknown dataset of SpikingJelly 'NMINST'. Did you mean 'NMNIST'?"),
        ({}, "unknown dataset of SpikingJelly '(none)'"),
        ({"dataset": "NMNIST", "split": {"test": 0.1}}, "NMNIST has a split of its own; remove dataset.params.split"),
        ({"dataset": "NMNIST"}, "no class folders in events_np or extract; state dataset.params.classes"),
    ],
)
def test_what_has_to_be_stated_is_asked_for(tmp_path, params, message):
    (tmp_path / "raw").mkdir()
    assert message in refusal(tmp_path / "raw", **params)


def test_what_the_source_says_is_what_the_classes_say():
    from spikingjelly import datasets

    assert {"ASLDVS", "CIFAR10DVS", "DVS128Gesture", "HARDVS", "NMNIST"} <= set(names())
    for name in names():
        assert find_class(name).size == getattr(datasets, name).get_H_W()
