"""The chunked shuffle: exact, the same on any number of ranks, mixed within its window, blocks read by one rank each."""

import itertools

import numpy as np
import pytest
from pydantic import ValidationError

from spikedistill.data.loading.streaming.order import ChunkedOrder, ChunkedShuffle, chunked_order

CASES = [
    # block, window, samples, batch size
    (8, 512, 1437, 64),
    (1, 4, 10, 3),
    (5, 20, 64, 64),
    (7, 10_000, 1000, 30),
    (100, 400, 99, 9),
    (8, 8192, 5000, 97),
]


@pytest.mark.parametrize(("block", "window", "samples", "batch"), CASES)
def test_every_sample_comes_once(block, window, samples, batch):
    order = chunked_order(ChunkedShuffle(block=block, window=window), 3, 5, samples, batch)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(samples))


def test_it_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        return chunked_order(ChunkedShuffle(block=1, window=16), seed, epoch, 12, 4).tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed, epoch in itertools.product(range(3), range(3))}) == 9
    assert order(3, 4) == [9, 6, 5, 11, 0, 7, 4, 8, 3, 10, 1, 2]


def test_a_part_of_a_batch_comes_from_blocks_of_its_own():
    """Ranks take contiguous parts, so that no two of them read the same block, but for one at the end of each lane."""
    shuffle, samples, batch = ChunkedShuffle(block=8, window=512), 10_000, 64
    assert shuffle.lanes(batch) == 8
    order = chunked_order(shuffle, 0, 0, samples, batch)[: samples // batch * batch].reshape(-1, batch)
    for ranks in (2, 4, 8):
        blocks = [set((part // shuffle.block).reshape(-1).tolist()) for part in np.split(order, ranks, axis=1)]
        shared = sum(len(one & other) for one, other in itertools.combinations(blocks, 2))
        assert shared <= ranks - 1
        assert sum(map(len, blocks)) <= samples / shuffle.block + ranks


@pytest.mark.parametrize("batch", [1, 2, 30, 64, 96, 97, 128, 1000])
def test_lanes_divide_a_batch_and_mix_several_blocks_each(batch):
    for shuffle in (ChunkedShuffle(), ChunkedShuffle(block=4, window=16), ChunkedShuffle(block=1, window=100_000)):
        lanes = shuffle.lanes(batch)
        assert batch % lanes == 0 and 1 <= lanes <= 64
        assert lanes == 1 or shuffle.window / lanes >= 8 * shuffle.block


def test_only_a_window_of_blocks_is_open_at_a_time():
    shuffle, samples, batch = ChunkedShuffle(block=8, window=1024), 50_000, 32
    order = chunked_order(shuffle, 1, 0, samples, batch)
    steps = np.arange(samples) // batch
    first, last = np.full(samples // 8, samples), np.zeros(samples // 8, np.int64)
    np.minimum.at(first, order // 8, steps)
    np.maximum.at(last, order // 8, steps)
    open_blocks = [int(((first <= step) & (step <= last)).sum()) for step in range(0, samples // batch, 50)]
    assert max(open_blocks) <= (1024 + 2 * 16 * 8) / 8 + 32
    assert last.max() == (samples - 1) // batch


def test_a_batch_has_samples_of_many_blocks_from_the_first_to_the_last():
    shuffle, samples, batch = ChunkedShuffle(block=8, window=4096), 50_000, 64
    order = chunked_order(shuffle, 1, 0, samples, batch)[: samples // batch * batch].reshape(-1, batch)
    distinct = np.array([len(set((step // shuffle.block).tolist())) for step in order])
    assert distinct.min() > 0.5 * batch
    assert distinct.mean() > 0.9 * batch


def test_blocks_are_of_neighbours_in_the_file_whatever_the_order_of_the_split():
    rows = np.random.default_rng(0).permutation(np.arange(0, 900, 3))
    order = ChunkedOrder(ChunkedShuffle(block=10, window=100), rows, 0, 20)
    for block in range(30):
        members = rows[order.blocks == block]
        assert sorted(members.tolist()) == list(range(30 * block, 30 * block + 30, 3))
    assert sorted(order.of(0).tolist()) == list(range(300))


def test_a_window_of_few_blocks_is_refused():
    with pytest.raises(ValidationError, match="window 31 must be at least 4 blocks of 8: raise it"):
        ChunkedShuffle(block=8, window=31)
