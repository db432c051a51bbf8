"""Several ranks share the images of one dataset: the result is that of one."""

import itertools
import time

import numpy as np
import pytest

from spikedistill.data.prepare.blocks.ranks import own_blocks
from spikedistill.data.prepare.blocks.target import ArrayTarget
from tests import preparation
from tests.files import contents
from tests.preparation import STORAGES, prepared, write_imagenet


@pytest.mark.parametrize(("num_blocks", "world_size", "gap"), [(100, 3, 1), (7, 4, 0), (5, 8, 2), (1000, 16, 5)])
def test_no_two_ranks_write_blocks_that_share_a_page(num_blocks, world_size, gap):
    shares = [own_blocks(rank, world_size, num_blocks, gap) for rank in range(world_size)]
    taken = [(block, rank) for rank, share in enumerate(shares) for block in share]
    assert sorted(block for block, _ in taken) == sorted({block for block, _ in taken})
    for (block, rank), (following, other) in itertools.pairwise(sorted(taken)):
        assert rank == other or following - block > gap


@pytest.mark.parametrize(("row", "rows", "expected"), [((3, 256, 256), 64, 1), ((3, 8, 8), 1, 342), ((3, 8, 8), 64, 6)])
def test_as_many_blocks_are_left_between_ranks_as_a_page_may_have(tmp_path, row, rows, expected):
    target = ArrayTarget(tmp_path / "array.npy", np.dtype(np.uint8), (1000, *row), "images")
    assert target.gap(rows) == expected


def run_ranks(raw, folder, params, world_size, workers):
    running = [
        preparation.start("imagenet", raw, folder, params=params, workers=workers, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    return [preparation.finish(each) for each in running]


@pytest.mark.slow
@pytest.mark.parametrize("storage", STORAGES)
def test_any_number_of_ranks_and_workers_gives_the_same(tmp_path, storage):
    raw = write_imagenet(tmp_path / "raw")
    params = {"strict": False, **STORAGES[storage]}
    expected = prepared("imagenet", raw, tmp_path / "whole", num_workers=1, **STORAGES[storage])
    for world_size, workers in ((1, 3), (2, 1), (2, 4), (4, 2)):
        folder = tmp_path / f"{world_size}-{workers}"
        run_ranks(raw, folder, params, world_size, workers)
        assert contents(folder / "out") == expected
        shares = [preparation.journaled(path) for path in (folder / "work").rglob("journal-*.jsonl")]
        assert len(shares) == world_size and min(shares) > 0  # every rank did a part


@pytest.mark.slow
def test_ranks_that_are_killed_go_on_as_another_number_of_ranks(tmp_path):
    raw = write_imagenet(tmp_path / "raw")
    params = {"strict": False, **STORAGES["array"]}
    folder = tmp_path / "killed"
    before = {"params": params, "workers": 1, "slow_s": 0.01, "world_size": 2, "token": "first"}
    running = [preparation.start("imagenet", raw, folder, rank=rank, **before) for rank in range(2)]
    journals = [folder / "work" / "array" / f"journal-first-{rank}.jsonl" for rank in range(2)]
    while not all(path.exists() and preparation.journaled(path) for path in journals):
        time.sleep(0.002)
    for each in running:
        preparation.kill(each)
    said = run_ranks(raw, folder, params, 4, 1)
    assert "going on: " in said[0]
    assert contents(folder / "out") == prepared("imagenet", raw, tmp_path / "whole", **STORAGES["array"])


@pytest.mark.slow
def test_bad_images_in_the_share_of_another_rank_are_named(tmp_path):
    raw = write_imagenet(tmp_path / "raw")
    bad = [sorted((raw / "train").rglob("*.JPEG"))[row] for row in (20, 150)]
    for path in bad:
        path.write_bytes(b"<html>")
    params = {"strict": False, **STORAGES["array"]}
    running = [preparation.start("imagenet", raw, tmp_path, params=params, rank=rank, world_size=2) for rank in range(2)]
    said = [each.communicate(timeout=60)[0] for each in running]
    assert [each.returncode for each in running] == [1, 0], said
    assert "2 of 192 images cannot be used" in said[0] and all(str(path) in said[0] for path in bad)
