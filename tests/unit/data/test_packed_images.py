"""Images packed into a few files: the same images, mixed; or smaller ones."""

import shutil
import sys

import numpy as np
import pytest

from spikedistill.data.datasets import imagenet
from spikedistill.data.formats.decoding import parts
from spikedistill.data.store import open_store
from spikedistill.errors import DataError
from tests.preparation import prepared, write_imagenet


def test_packed_images_are_those_of_the_files_in_an_order_that_mixes_classes(tmp_path):
    raw = write_imagenet(tmp_path / "raw")
    prepared("imagenet", raw, tmp_path / "packed", storage="packed", side=24)
    prepared("imagenet", raw, tmp_path / "files", side=24)
    packed, plain = open_store(tmp_path / "packed" / "out"), open_store(tmp_path / "files" / "out")
    assert {name: rows.tolist() for name, rows in packed.splits.items()} == {n: r.tolist() for n, r in plain.splits.items()}
    by_id = {plain.samples.row(row)["id"]: row for row in range(len(plain.samples))}
    order = [by_id[packed.samples.row(row)["id"]] for row in range(len(packed.samples))]
    for split, rows in packed.splits.items():
        assert sorted(order[row] for row in rows) == plain.split(split).tolist()
    assert packed.labels.tolist() == plain.labels[order].tolist()
    for row in range(0, 192, 7):
        assert packed.samples.content(row) == plain.samples.content(order[row])
        np.testing.assert_array_equal(packed.samples.square(row), plain.samples.square(order[row]))
    first = packed.labels[:16].tolist()
    assert len(set(first)) == 3  # the first file has all classes
    shutil.rmtree(raw)  # nothing refers to the user's files any more
    moved = tmp_path / "elsewhere"
    (tmp_path / "packed" / "out").rename(moved)
    assert open_store(moved).samples.square(5).shape == (3, 24, 24)


def test_images_are_shrunk_by_the_shorter_side_and_small_ones_stay_as_they_are(tmp_path):
    raw = write_imagenet(tmp_path / "raw", per_class=8)
    prepared("imagenet", raw, tmp_path, storage="packed", shrink={"side": 44, "quality": 90})
    prepared("imagenet", raw, tmp_path / "plain", storage="packed")
    shrunk, plain = open_store(tmp_path / "out").samples, open_store(tmp_path / "plain" / "out").samples
    sizes = set()
    for row in range(len(plain)):
        small, whole = shrunk.read(row), plain.read(row)
        sizes.add(min(whole.size) > 44)
        if min(whole.size) <= 44:
            assert shrunk.content(row) == plain.content(row)
            continue
        assert min(small.size) == 44
        assert max(small.size) == int(44 * max(whole.size) / min(whole.size))
        close = np.asarray(small).astype(int) - np.asarray(whole.resize(small.size, 2))
        assert np.abs(close).mean() < 6
    assert sizes == {True, False}


@pytest.mark.parametrize("storage", ["files", "packed"])
def test_images_with_random_access_are_the_same_to_the_bit(tmp_path, storage, monkeypatch):
    raw = write_imagenet(tmp_path / "raw", per_class=8)
    prepared("imagenet", raw, tmp_path, storage=storage, random_access=True)
    prepared("imagenet", raw, tmp_path / "plain", storage=storage)
    found, plain = open_store(tmp_path / "out").samples, open_store(tmp_path / "plain" / "out").samples
    used = []
    between = parts._between
    monkeypatch.setattr(parts, "_between", lambda *arguments: used.append(between(*arguments)) or used[-1])
    for row in range(len(plain)):
        np.testing.assert_array_equal(found.read(row), plain.read(row))
        images = [each.encoded(row, each.content(row)) for each in (found, plain)]
        box = (images[0].height // 3, images[0].width // 4, images[0].height // 3, images[0].width // 2)
        np.testing.assert_array_equal(*(image.resized_box(box, 16) for image in images))
    assert len(used) > len(plain) / 2 and any(used)
    assert (storage == "files") == (tmp_path / "out" / "entry_points").exists()


def test_entry_points_that_were_cut_off_are_named(tmp_path):
    raw = write_imagenet(tmp_path / "raw", per_class=8)
    prepared("imagenet", raw, tmp_path, random_access=True)
    path = tmp_path / "out" / "entry_points" / "00000.bin"
    path.write_bytes(path.read_bytes()[:100])
    samples = open_store(tmp_path / "out").samples
    with pytest.raises(DataError, match=r"entry_points/00000\.bin: it is cut off; run the preprocess stage again"):
        [samples.square(row) for row in range(len(samples))]


def test_random_access_without_numba_says_what_to_install(tmp_path, monkeypatch):
    raw = write_imagenet(tmp_path / "raw", per_class=8)
    monkeypatch.setitem(sys.modules, "numba", None)
    for module in ("entropy", "finding"):
        monkeypatch.delitem(sys.modules, f"spikedistill.data.formats.decoding.{module}", raising=False)
        monkeypatch.delattr(f"spikedistill.data.formats.decoding.{module}", raising=False)
    for storage in ("files", "packed"):
        with pytest.raises(DataError, match=r"dataset\.params\.random_access: .* pip install 'spikedistill\[images\]'"):
            prepared("imagenet", raw, tmp_path, storage=storage, random_access=True)


def test_the_parameters_of_packed_images_are_checked():
    with pytest.raises(ValueError, match="shrink needs storage: packed"):
        imagenet.Params(shrink={"side": 256})
    with pytest.raises(ValueError, match="random_access is for images that stay JPEG"):
        imagenet.Params(storage="array", random_access=True)
    assert imagenet.Params(storage="packed", shrink={"side": 256}).shrink.quality == 90
