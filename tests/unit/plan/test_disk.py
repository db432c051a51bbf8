"""What a plan says of the disk that its preparations need."""

import shutil

import pytest

from spikedistill.plan.costs.disk import disk_lines, written_bytes
from spikedistill.plan.stages import PreprocessSpec


def spec(dataset="imagenet", **params):
    return PreprocessSpec(dataset=dataset, params=params)


@pytest.mark.parametrize(
    ("given", "gigabytes"),
    [
        ({"storage": "array"}, 261.7),
        ({"storage": "array", "side": 64}, 16.4),
        ({"storage": "packed"}, 154.6),
        ({"storage": "packed", "shrink": {"side": 256}}, 39.3),
        ({}, 0.2),
        ({"storage": "array", "strict": False}, 0.0),
    ],
)
def test_the_space_for_imagenet_is_known_by_its_storage(given, gigabytes):
    assert written_bytes(spec(**given)) / 1e9 == pytest.approx(gigabytes, abs=0.05)


def test_the_space_for_frames_is_that_of_the_array():
    assert written_bytes(spec("cifar10-dvs")) == 10_000 * 10 * 2 * 128 * 128


def test_what_is_large_is_told_with_what_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(900, 600, 300 * 10**9))
    large, small = spec(storage="array"), spec("digits")
    assert list(disk_lines([small], tmp_path / "store")) == []
    [line] = disk_lines([large, small], tmp_path / "store")
    assert line == f"disk: {large.ref.partition('/')[2]} writes about 261.7 GB to {tmp_path / 'store'}, 300.0 GB free"
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(900, 600, 200 * 10**9))
    lines = list(disk_lines([large], tmp_path / "store"))
    assert lines[-1] == "disk: that is 61.7 GB more than is free: make room, or set store: to a larger disk"
