"""Batches for a GPU: every place that samples come from, every augmentation; no waiting, and no more launches than needed."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image

from spikedistill.data.formats.arrays import open_array
from spikedistill.data.formats.images import ImageFiles
from spikedistill.data.loading import loader as loading
from spikedistill.data.loading.augment import Augment
from spikedistill.data.loading.loader import Loader
from spikedistill.data.loading.mixing import Mixing
from spikedistill.data.loading.streaming.array_file import ArrayFile
from spikedistill.data.store import SampleStore
from tests.gpu.bounds import check_bounds
from tests.gpu.fake.counts import Counted
from tests.gpu.training import Case, noise

BATCH, STEPS = 8, 6

AUGMENTATIONS = {
    "none": ("images", {}),
    "cifar": ("images", {"crop_padding": 4, "flip": True, "cutout": 16}),
    "auto_augment": ("images", {"crop_padding": 4, "flip": True, "auto_augment": "cifar10", "cutout": 16}),
    "imagenet": ("images", {"random_resized_crop": {}, "flip": True, "erase": {}}),
    "events": ("frames", {"crop_padding": 4, "flip": True, "roll": 5, "rotate": 15, "cutout": 8}),
}


def image_files(folder):
    """The images of `noise`, as files that are decoded for each batch."""
    case = Case(batch_size=BATCH, steps=STEPS)
    data = noise(case)
    for number, pixels in enumerate(data.samples):
        content = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(content, "PNG")
        (folder / f"{number}.png").write_bytes(content.getvalue())
    files = ImageFiles(folder, [{"id": f"{number}.png"} for number in range(len(data.labels))], 32)
    return SampleStore("images", files, data.labels, data.splits, data.class_names, data.mean, data.std)


def array(kind):
    return noise(Case(kind=kind, batch_size=BATCH, steps=STEPS))


def load(data, device, **options):
    return Loader(data, "train", batch_size=BATCH, seed=1, device=device, **{"shuffle": True} | options)


def check(gpu, loader, name):
    """Take the batches of a second epoch, when caches are warm, and check them on the fake GPU; return them."""
    list(loader.epoch(0))
    if not gpu.is_fake:
        return list(loader.epoch(1))
    torch.cuda.set_sync_debug_mode("error")
    try:
        with Counted() as counted:
            batches = list(loader.epoch(1))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(batches) == STEPS
    assert counted.pageable_copies == 0
    check_bounds(f"{name} ({STEPS} batches)", counted)
    return batches


def same(batches, expected):
    """Assert that the batches of a real GPU are those of the CPU; interpolation rounds differently on each."""
    for (inputs, labels), (expected_inputs, expected_labels) in zip(batches, expected, strict=True):
        torch.testing.assert_close(inputs.cpu(), expected_inputs, rtol=1e-5, atol=1e-5)
        assert torch.equal(labels.cpu(), expected_labels)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_augmentation(gpu, name):
    kind, augment = AUGMENTATIONS[name]
    options = {"augment": Augment.model_validate(augment)}
    batches = check(gpu, load(array(kind), gpu.device, **options), f"augmentation {name}")
    assert all(tensor.device == gpu.device for batch in batches for tensor in batch)
    if not gpu.is_fake:
        same(batches, load(array(kind), "cpu", **options).epoch(1))


def array_file(folder):
    """The images of `noise`, in a file that is read ahead."""
    data = array("images")
    np.save(folder / "images.npy", data.samples)
    return dataclasses.replace(data, samples=open_array(folder / "images.npy"))


@pytest.mark.parametrize("place", ["device", "rows", "ahead", "files"])
def test_every_place_of_the_samples(gpu, tmp_path, monkeypatch, place):
    monkeypatch.setattr(loading, "RESIDENT_SHARE", 0.25 if place == "device" else 0.0)
    monkeypatch.setattr(ArrayFile, "is_cached", lambda *_: False)
    make = {"ahead": array_file, "files": image_files}
    data = make[place](tmp_path) if place in make else array("images")
    batches = check(gpu, load(data, gpu.device), f"samples from {'rows' if place == 'ahead' else place}")
    if not gpu.is_fake:
        same(batches, load(data, "cpu").epoch(1))


def test_counts_above_255_are_kept(gpu):
    data = array("frames")
    wide = SampleStore(data.kind, data.samples.astype(np.uint16) * 300, *[getattr(data, name) for name in REST])
    batches = check(gpu, load(wide, gpu.device), "frames of 16 bit")
    if not gpu.is_fake:
        same(batches, load(wide, "cpu").epoch(1))


REST = ("labels", "splits", "class_names", "mean", "std")


def test_mixing(gpu):
    mixing = Mixing(0.2, 1.0, 1.0)
    batches = check(gpu, load(array("images"), gpu.device, mixing=mixing), "mixing")
    if not gpu.is_fake:
        same(batches, load(array("images"), "cpu", mixing=mixing).epoch(1))


def test_evaluation_batches(gpu):
    batches = check(gpu, load(array("images"), gpu.device, shuffle=False), "evaluation batches")
    if not gpu.is_fake:
        same(batches, load(array("images"), "cpu", shuffle=False).epoch(1))
