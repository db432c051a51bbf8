"""Reading ahead: the same batches as from the memory map, in fixed memory; files that are cut or gone are errors."""

import itertools
import os
import threading

import numpy as np
import pytest
import torch

from spikedistill.data.formats.arrays import open_array
from spikedistill.data.loading import loader as loader_module
from spikedistill.data.loading.augment import Augment
from spikedistill.data.loading.loader import Loader
from spikedistill.data.loading.mixing import Mixing
from spikedistill.data.loading.streaming import read_ahead
from spikedistill.data.loading.streaming.array_file import ArrayFile
from spikedistill.data.loading.streaming.order import ChunkedShuffle
from spikedistill.data.loading.streaming.read_ahead import RowsAhead
from spikedistill.data.loading.streaming.reads import plan_reads
from spikedistill.data.store import SampleStore
from spikedistill.errors import DataError

NUM_ROWS = 200
SHAPES = {"images": (3, 8, 8), "frames": (2, 2, 8, 8)}
CHUNKED = ChunkedShuffle(block=4, window=64)


def make_store(folder, kind="images", dtype=np.uint8):
    """A dataset of noise in a file; the split to train on is not in the order of its rows, and has gaps."""
    random = np.random.default_rng(0)
    samples = random.integers(0, np.iinfo(dtype).max, (NUM_ROWS, *SHAPES[kind]), dtype=dtype, endpoint=True)
    np.save(folder / f"{kind}.npy", samples)
    splits = {"train": random.permutation(NUM_ROWS)[:170], "test": np.arange(NUM_ROWS)}
    statistics = ((0.5,) * 3, (0.25,) * 3) if kind == "images" else (None, None)
    labels = np.arange(NUM_ROWS) % 7
    return SampleStore(kind, open_array(folder / f"{kind}.npy"), labels, splits, tuple("abcdefg"), *statistics)


@pytest.fixture
def streamed(monkeypatch):
    """Splits are not kept in memory."""
    monkeypatch.setattr(loader_module, "RESIDENT_BYTES", 0)


@pytest.fixture
def ahead(streamed, monkeypatch):
    """Splits are read ahead, as if the page cache did not hold them."""
    monkeypatch.setattr(ArrayFile, "is_cached", lambda *_: False)


def load(store, split="train", **options):
    return Loader(store, split, **{"batch_size": 16, "seed": 3, "shuffle": split == "train"} | options)


def same(batches, others):
    return len(batches) == len(others) > 0 and all(
        torch.equal(each, other) for pair in zip(batches, others, strict=True) for each, other in zip(*pair, strict=True)
    )


@pytest.mark.parametrize("chunked", [None, CHUNKED], ids=["full", "chunked"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", ["images", "frames"])
def test_batches_are_those_of_the_memory_map(tmp_path, streamed, monkeypatch, kind, dtype, chunked):
    store = make_store(tmp_path, kind, dtype)

    def epochs():
        loader = load(store, chunked=chunked)
        stored = [(samples.clone(), labels) for samples, labels in loader.stored(2)]
        return list(loader.epoch(1)), stored, list(load(store, "test").epoch(0))

    monkeypatch.setattr(ArrayFile, "is_cached", lambda *_: True)
    mapped = epochs()
    monkeypatch.setattr(ArrayFile, "is_cached", lambda *_: False)
    assert all(same(one, other) for one, other in zip(mapped, epochs(), strict=True))


@pytest.mark.parametrize("chunked", [None, CHUNKED], ids=["full", "chunked"])
@pytest.mark.parametrize("mixing", [None, Mixing(0.2, 1.0, 1.0)], ids=["plain", "mixed"])
@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_the_very_batches_that_one_rank_sees(tmp_path, ahead, world_size, mixing, chunked):
    store = make_store(tmp_path)
    options = {"chunked": chunked, "mixing": mixing, "augment": Augment(flip=True, crop_padding=1)}
    alone = list(load(store, **options).epoch(5))
    ranks = [list(load(store, **options, rank=rank, world_size=world_size).epoch(5)) for rank in range(world_size)]
    assert len(alone) == 170 // 16
    for step, (inputs, labels) in enumerate(alone):
        assert torch.equal(inputs, torch.cat([rank[step][0] for rank in ranks]))
        assert torch.equal(labels, torch.cat([rank[step][1] for rank in ranks], dim=-1))


@pytest.mark.parametrize("chunked", [None, CHUNKED], ids=["full", "chunked"])
def test_an_epoch_goes_on_in_its_middle_and_reads_nothing_else(tmp_path, ahead, monkeypatch, chunked):
    loader = load(make_store(tmp_path), chunked=chunked)
    whole = list(loader.epoch(2))
    counted = count_rows(monkeypatch)
    assert same(list(loader.epoch(2, start_step=7)), whole[7:])
    assert sum(counted) == 3 * 16


def count_rows(monkeypatch):
    """Count the rows of each request from here on."""
    counted, read = [], ArrayFile.read
    monkeypatch.setattr(ArrayFile, "read", lambda self, first, rows: (counted.append(len(rows)), read(self, first, rows)))
    return counted


def test_a_block_is_one_request(tmp_path, ahead, monkeypatch):
    store = make_store(tmp_path)
    store.splits["train"] = np.arange(192)
    counted = count_rows(monkeypatch)
    list(load(store, chunked=CHUNKED).epoch(0))
    assert sum(counted) == 192 and len(counted) <= 48 and not any(count % 4 for count in counted)
    counted.clear()
    list(load(store).epoch(0))
    assert sum(counted) == 192 and len(counted) > 150


def test_an_epoch_that_was_left_leaves_no_thread(tmp_path, ahead):
    loader = load(make_store(tmp_path))
    for _ in loader.epoch(0):
        assert threads()
        break
    assert not threads()


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith(("read-ahead", "prefetch"))]


def test_a_file_that_is_cut_while_it_is_read_is_named(tmp_path, ahead):
    loader = load(make_store(tmp_path))
    with pytest.raises(DataError, match=r"images\.npy: 20000 bytes, which end before row \d+ does: it was cut"):
        for _ in loader.epoch(0):
            os.truncate(tmp_path / "images.npy", 20_000)
    assert not threads()


def test_a_file_that_was_cut_before_is_named(tmp_path, ahead):
    store = make_store(tmp_path)
    os.truncate(tmp_path / "images.npy", 20_000)
    with pytest.raises(DataError, match=r"images\.npy: 20000 bytes, expected 38528: it was cut"):
        load(store)


def test_a_file_that_was_cut_between_epochs_is_named(tmp_path, streamed):
    loader = load(make_store(tmp_path))
    list(loader.epoch(0))
    os.truncate(tmp_path / "images.npy", 20_000)
    with pytest.raises(DataError, match=r"images\.npy: 20000 bytes, expected 38528: it was cut"):
        list(loader.epoch(1))


def test_a_file_that_is_removed_is_read_to_the_end_and_cannot_be_opened_again(tmp_path, ahead):
    store = make_store(tmp_path)
    loader = load(store)
    whole = list(loader.epoch(0))
    (tmp_path / "images.npy").unlink()
    assert same(list(loader.epoch(0)), whole)
    with pytest.raises(DataError, match=r"images\.npy: No such file or directory"):
        load(store)


def test_a_disk_that_fails_is_an_error_that_names_the_file(tmp_path, ahead, monkeypatch):
    loader = load(make_store(tmp_path))

    def preadv(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", preadv)
    with pytest.raises(DataError, match=r"images\.npy: rows from \d+ on cannot be read: Input/output error; the disk or"):
        list(loader.epoch(0))


@pytest.mark.parametrize("at_most", [1, 100, 193])
def test_requests_that_are_answered_in_parts_are_put_together(tmp_path, monkeypatch, at_most):
    store = make_store(tmp_path)
    preadv = os.preadv

    def some(descriptor, buffers, offset):
        parts, left = [], at_most
        for buffer in buffers:
            parts.append(buffer[:left])
            left -= len(parts[-1])
        return preadv(descriptor, parts, offset)

    monkeypatch.setattr(os, "preadv", some)
    rows = np.zeros((3, 192), np.uint8)
    ArrayFile.of(store.samples).read(5, [memoryview(row) for row in rows])
    assert np.array_equal(rows, store.samples[5:8].reshape(3, -1))


def test_a_part_of_an_array_and_one_in_memory_are_not_taken_for_the_file(tmp_path):
    samples = make_store(tmp_path).samples
    assert ArrayFile.of(samples) is not None
    assert ArrayFile.of(samples[10:]) is None
    assert ArrayFile.of(np.asarray(samples)) is None


def test_each_use_is_read_once_in_time_and_with_its_neighbours():
    random = np.random.default_rng(0)
    rows = [random.permutation(1000)[:40] for _ in range(30)]
    groups = [each // 10 + 100 * (step // 6) for step, each in enumerate(rows)]
    reads = plan_reads(rows, groups, run_rows=4)
    assert sorted(reads.sequence.tolist()) == list(range(30 * 40))
    started = set()
    for step in range(reads.num_steps):
        bounds = reads.runs_of(step).tolist()
        for start, end in itertools.pairwise(bounds):
            run = reads.rows[reads.sequence[start:end]]
            assert 1 <= len(run) <= 4 and (np.diff(run) == 1).all()
        started |= set(reads.sequence[bounds[0] : bounds[-1]].tolist())
        assert started >= set(range(*reads.uses(step).indices(len(reads.rows))))
        assert np.array_equal(reads.rows[reads.uses(step)], rows[step])


def test_the_memory_does_not_grow_with_the_array(tmp_path, ahead, monkeypatch):
    held = []
    init = RowsAhead.__init__
    monkeypatch.setattr(read_ahead, "IN_FLIGHT", 4)
    monkeypatch.setattr(RowsAhead, "__init__", lambda self, *given: (init(self, *given), held.append(len(self._memory)))[0])
    for number in (2_000, 20_000):
        np.save(tmp_path / "images.npy", np.zeros((number, 1, 2, 2), np.uint8))
        every = np.arange(number)
        samples = open_array(tmp_path / "images.npy")
        store = SampleStore("images", samples, every % 2, {"train": every}, ("a", "b"), (0.0,), (1.0,))
        for chunked in (None, ChunkedShuffle(block=4, window=512)):
            list(load(store, chunked=chunked).epoch(0))
    assert held[2] <= 1.1 * held[0] <= 1.1 * 32
    assert held[3] <= 1.1 * held[1] <= 1.1 * 512


def test_what_the_page_cache_holds_is_copied_from_the_map(tmp_path):
    np.save(tmp_path / "big.npy", np.random.default_rng(0).integers(0, 256, (64, 1 << 16), dtype=np.uint8))

    def is_cached():
        return ArrayFile.of(open_array(tmp_path / "big.npy")).is_cached(np.random.default_rng(0).permutation(64))

    with (tmp_path / "big.npy").open("rb") as stream:
        os.fsync(stream.fileno())
        assert is_cached()
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if is_cached():
        pytest.skip("this file system keeps all files in memory")
    (tmp_path / "big.npy").read_bytes()
    assert is_cached()
