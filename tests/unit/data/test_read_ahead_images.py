"""Reading the bytes of images ahead, from files and archives: the same batches, few requests, errors that name the image."""

import math
import os
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from spikedistill.data.formats.images import ImageFiles
from spikedistill.data.loading.augment import Augment, ResizedCrop
from spikedistill.data.loading.inputs import InputConfig
from spikedistill.data.loading.loader import Loader
from spikedistill.data.loading.streaming import read_ahead
from spikedistill.data.loading.streaming.order import ChunkedShuffle
from spikedistill.data.store import SampleStore
from spikedistill.errors import DataError

NUMBER = 40
AUGMENT = Augment(random_resized_crop=ResizedCrop(), flip=True)


def make_files(folder):
    """Write images of several sizes; return the rows of an index."""
    random = np.random.default_rng(0)
    rows = [{"id": f"{number}.jpg"} for number in range(NUMBER)]
    for number, row in enumerate(rows):
        pixels = random.integers(0, 256, (40 + number, 60 - number // 2, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / row["id"])
    return rows


def pack(folder, rows):
    """Put the images into a tar archive, and return their rows in it."""
    with tarfile.open(folder / "all.tar", "w") as archive:
        for row in rows:
            archive.add(folder / row["id"], row["id"])
    with tarfile.open(folder / "all.tar") as archive:
        members = [archive.getmember(row["id"]) for row in rows]
    return [{"id": each.name, "archive": "all.tar", "offset": each.offset_data, "size": each.size} for each in members]


@pytest.fixture(params=["files", "archive"])
def store(request, tmp_path):
    rows = make_files(tmp_path)
    files = ImageFiles(tmp_path, pack(tmp_path, rows) if request.param == "archive" else rows, 32)
    every = np.arange(NUMBER)
    return SampleStore("images", files, every % 3, {"train": every, "test": every[:9]}, tuple("abc"), (0.5,) * 3, (0.25,) * 3)


def load(store, split="train", **options):
    crop = {"augment": AUGMENT} if split == "train" else {}
    given = {"batch_size": 8, "seed": 3, "shuffle": split == "train", "inputs": InputConfig(center_crop=28), **crop}
    return Loader(store, split, **given | options)


@pytest.mark.parametrize("chunked", [None, ChunkedShuffle(block=4, window=32)], ids=["full", "chunked"])
def test_batches_are_those_of_threads_that_read_and_decode(store, monkeypatch, chunked):
    def batches(late):
        monkeypatch.setattr(read_ahead, "LATE_S", 0.0 if late else math.inf)
        loader = load(store, chunked=chunked)
        return [*loader.epoch(1), *loader.epoch(1, start_step=3), *load(store, "test").epoch(0)]

    for ours, theirs in zip(batches(True), batches(False), strict=True):
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_images_that_follow_each_other_in_an_archive_are_one_request(tmp_path, monkeypatch):
    files = ImageFiles(tmp_path, pack(tmp_path, make_files(tmp_path)), 32)
    expected = [(tmp_path / f"{number}.jpg").read_bytes() for number in range(NUMBER)]
    requests, pread = [], os.pread
    monkeypatch.setattr(os, "pread", lambda *given: (requests.append(given), pread(*given))[1])
    assert files.contents(range(5, 12)) == expected[5:12]
    assert len(requests) == 1
    assert files.contents([3, 9, 1]) == [expected[number] for number in (3, 9, 1)]
    assert len(requests) == 4


def test_an_archive_that_is_cut_and_a_file_that_is_gone_are_named(tmp_path):
    rows = make_files(tmp_path)
    files, packed = ImageFiles(tmp_path, rows, 32), ImageFiles(tmp_path, pack(tmp_path, rows), 32)
    os.truncate(tmp_path / "all.tar", packed.row(7)["offset"] + 10)
    (tmp_path / "6.jpg").unlink()
    with pytest.raises(DataError, match=r"all\.tar/7\.jpg: 10 of its \d+ bytes are there: the archive is cut off"):
        packed.contents(range(4, 8))
    with pytest.raises(DataError, match=r"6\.jpg: No such file or directory"):
        files.contents(range(4, 8))


def test_a_damaged_image_is_named_while_others_are_read(store, tmp_path, monkeypatch):
    monkeypatch.setattr(read_ahead, "LATE_S", 0.0)

    def damaged(self, rows):
        return [b"\xff\xd8damaged" if row == 5 else self.content(row) for row in rows]

    monkeypatch.setattr(ImageFiles, "contents", damaged)
    with pytest.raises(DataError, match=r"5\.jpg: not an image that can be decoded"):
        list(load(store).epoch(0))


def test_what_is_read_at_once_is_not_read_ahead():
    asked = []
    assert not read_ahead._answers_late(asked.append, np.arange(1000))
    assert len(asked) == 9 and asked[0] == 0 and asked[-1] == 999
    assert not read_ahead._answers_late(asked.append, np.arange(0))
