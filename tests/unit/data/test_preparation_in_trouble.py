"""Bad images, files that vanish, full disks: named, and nothing of what is good is lost."""

import os
import resource
import subprocess

import pytest

from slurm_lab.odd_places import small_disk
from spikedistill.data.datasets import imagenet
from spikedistill.data.formats import arrays
from spikedistill.data.prepare.blocks import filling, packs, target
from spikedistill.errors import DataError
from tests import image_files
from tests.files import write_files
from tests.preparation import STORAGES, prepared, write_imagenet

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")


def test_bad_images_are_named_and_what_is_good_is_kept(tmp_path, decoded):
    raw = write_imagenet(tmp_path / "raw")
    whole = prepared("imagenet", raw, tmp_path / "whole", **STORAGES["array"])
    paths = sorted((raw / "train").rglob("*.JPEG"))
    cut = paths[10]
    content = cut.read_bytes()
    cut.write_bytes(content[:-200])
    with pytest.raises(DataError, match="1 of 192 images cannot be used") as caught:
        prepared("imagenet", raw, tmp_path, **STORAGES["array"])
    assert str(cut) in str(caught.value)
    cut.write_bytes(content)
    before = decoded.sum()
    assert prepared("imagenet", raw, tmp_path, **STORAGES["array"]) == whole
    assert 0 < decoded.sum() - before < 10


def test_an_image_that_vanishes_while_it_is_prepared_is_named(tmp_path, monkeypatch):
    raw = write_imagenet(tmp_path / "raw", per_class=10)
    gone = sorted((raw / "train").rglob("*.JPEG"))[5]
    content = gone.read_bytes()
    found = imagenet._rows

    def rows(*arguments, **options):
        made = found(*arguments, **options)
        gone.unlink()
        return made

    monkeypatch.setattr(imagenet, "_rows", rows)
    for storage in STORAGES:
        with pytest.raises(DataError, match="1 of 42 images cannot be used") as caught:
            prepared("imagenet", raw, tmp_path / storage, **STORAGES[storage])
        assert f"{gone}: No such file or directory" in str(caught.value)
        assert not list((tmp_path / storage / "out").iterdir())
        gone.write_bytes(content)
    monkeypatch.undo()
    assert prepared("imagenet", raw, tmp_path / "array", **STORAGES["array"])


def test_an_archive_that_is_cut_off_after_it_was_listed_is_named(tmp_path, monkeypatch):
    raw = write_files(tmp_path / "raw", image_files.imagenet_archives())
    archive = raw / "ILSVRC2012_img_train.tar"
    content = archive.read_bytes()
    found = imagenet._rows

    def rows(*arguments, **options):
        made = found(*arguments, **options)
        archive.write_bytes(content[: len(content) - 30_000])
        return made

    monkeypatch.setattr(imagenet, "_rows", rows)
    for storage in ("packed", "array"):
        with pytest.raises(DataError, match="of 36 images cannot be used") as caught:
            prepared("imagenet", raw, tmp_path / storage, verify=False, **STORAGES[storage])
        assert "bytes are there: the archive is cut off" in str(caught.value)
        archive.write_bytes(content)


def test_a_truncated_image_in_an_archive_is_named(tmp_path):
    images = image_files.imagenet_train()
    name = next(iter(images))
    class_name, _, file = name.partition("/")
    of_class = {path.partition("/")[2]: content for path, content in images.items() if path.startswith(class_name)}
    of_class[file] = of_class[file][:-150]
    raw = write_files(tmp_path / "raw", image_files.imagenet_archives())
    others = {path.partition("/")[0] for path in images} - {class_name}
    by_class = {class_name: of_class} | {
        other: {path.partition("/")[2]: content for path, content in images.items() if path.startswith(other)} for other in others
    }
    archive = image_files.tar_of({f"{each}.tar": image_files.tar_of(found) for each, found in sorted(by_class.items())})
    (raw / "ILSVRC2012_img_train.tar").write_bytes(archive)
    for storage in STORAGES:
        with pytest.raises(DataError, match="1 of 36 images cannot be used") as caught:
            prepared("imagenet", raw, tmp_path / storage, **STORAGES[storage])
        assert f"ILSVRC2012_img_train.tar/train/{name}: not an image that can be decoded" in str(caught.value)


@needs_root
@pytest.mark.parametrize("storage", ["array", "packed"])
def test_a_disk_that_is_full_is_told_before_anything_is_written(tmp_path, storage):
    raw = write_imagenet(tmp_path / "raw", per_class=30)
    with small_disk(tmp_path / "disk", "128K") as disk:
        with pytest.raises(DataError, match="needed for the images") as caught:
            prepared("imagenet", raw, disk, **STORAGES[storage])
        assert str(disk / "work" / storage) in str(caught.value) and "free; make room" in str(caught.value)
        assert sum(path.stat().st_size for path in disk.rglob("*") if path.is_file()) == 0


@needs_root
@pytest.mark.parametrize("storage", ["array", "packed"])
def test_a_disk_that_becomes_full_meanwhile_loses_nothing(tmp_path, monkeypatch, decoded, storage):
    raw = write_imagenet(tmp_path / "raw")
    whole = prepared("imagenet", raw, tmp_path / "whole", **STORAGES[storage])
    monkeypatch.setattr(filling, "COMMIT_S", 0.0)
    with small_disk(tmp_path / "disk", "180K") as disk:
        with monkeypatch.context() as patch:
            for module in (arrays, packs, target):
                patch.setattr(module, "check_free_space", lambda *arguments: None)  # as if there were space at the start
            patch.setattr(arrays, "reserve", lambda *arguments: None)  # as on a file system that cannot
            with pytest.raises(DataError, match="No space left on device; make room"):
                prepared("imagenet", raw, disk, num_workers=1, **STORAGES[storage])
        assert not list((disk / "out").iterdir())
        subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True)
        before = decoded.sum()
        assert prepared("imagenet", raw, disk, **STORAGES[storage]) == whole
        assert decoded.sum() - before < 192


def test_a_limit_on_the_size_of_files_is_told(tmp_path):
    raw = write_imagenet(tmp_path / "raw", per_class=10)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(DataError, match="needed for the images: File too large; make room, or use another disk"):
            prepared("imagenet", raw, tmp_path, **STORAGES["array"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert prepared("imagenet", raw, tmp_path, **STORAGES["array"])
