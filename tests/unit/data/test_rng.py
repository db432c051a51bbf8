"""Random numbers are functions of the seed and the training step alone."""

import itertools

import numpy as np

from spikedistill.data.loading.rng import Stream, derived_seed, epoch_permutation
from spikedistill.data.prepare import own_splits, splits


def test_derived_seeds_are_those_of_runs_so_far():
    assert derived_seed("noise", 0, 0, 0) == int.from_bytes(bytes.fromhex("4b67bd063728216f"), "big") >> 1
    assert derived_seed("noise", 3, 4, 5) < 2**63


def test_derived_seeds_differ_by_purpose_seed_epoch_step_and_rank():
    keys = list(itertools.product(("noise", "step"), (0, 1, 11), (0, 1, 11), (0, 1, 11), (None, 0, 1)))
    assert len({derived_seed(*key) for key in keys}) == len(keys)


def test_no_two_uses_draw_from_the_same_stream():
    streams = [*Stream, splits._STRATIFIED_STREAM, own_splits._STREAM]
    assert len(set(streams)) == len(streams)


def test_the_order_of_an_epoch_is_a_permutation_that_depends_on_seed_and_epoch():
    first = epoch_permutation(0, 0, 100)
    assert sorted(first.tolist()) == list(range(100))
    assert np.array_equal(first, epoch_permutation(0, 0, 100))
    assert not np.array_equal(first, epoch_permutation(0, 1, 100))
    assert not np.array_equal(first, epoch_permutation(1, 0, 100))
