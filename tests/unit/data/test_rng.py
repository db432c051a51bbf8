"""Random numbers are functions of the seed and the training step alone."""

import itertools

import numpy as np

from spikedistill.data.loading.rng import SampleRng, Stream, batch_words, derived_seed, epoch_permutation, uniform
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


def test_words_and_orders_are_those_of_runs_so_far():
    words = SampleRng(3, 4, np.array([9, 7]))
    drawn = {stream.name: [hex(word) for word in words.words(stream, 8)[:, 0].tolist()] for stream in Stream}
    assert drawn == {
        "ORDER": ["0x16dd6bdb8d025440", "0x38d9347ad05be547"],
        "GEOMETRY": ["0xe8add6d1e1475884", "0x24b37bd65e64287a"],
        "AUTO_AUGMENT": ["0xcdb69274a9108b1e", "0xaa87e5f3812c04e5"],
        "RESIZED_CROP": ["0x44bfd6b972c36dc0", "0x7d59bc6b600ec2b6"],
        "EVENTS": ["0x6e826509eac700f2", "0xd93967e141fb34a3"],
        "ERASING": ["0xfa59d32fdb68c7c7", "0xfcd0a63d0b4dd14"],
        "ENCODING": ["0xfec45d6822bfff0b", "0xc37439f1025a9da2"],
        "MIXING": ["0xe2f4f7ae8e999088", "0x47324ac4a2ee6482"],
        "DELAYS": ["0x7d6d0cb6fe2dbc62", "0x3145071ce982f88b"],
    }
    assert epoch_permutation(3, 4, 8).tolist() == [6, 0, 3, 7, 4, 1, 5, 2]
    assert [hex(batch_words(3, 4, step)[0]) for step in (5, 6)] == ["0x331b920a8a1e8e67", "0x14d073689208dd67"]


def test_successive_batches_share_no_word():
    words = np.concatenate([batch_words(0, 0, step) for step in range(5)])
    assert len(set(words.tolist())) == 5 * 8


def test_numbers_are_evenly_spread_from_0_to_below_1():
    words = np.array([0, 2**63, 2**64 - 1], dtype=np.uint64)
    assert uniform(words).tolist() == [0.0, 0.5, 1 - 2.0**-53]
    assert uniform(words, -1, 3).tolist()[:2] == [-1.0, 1.0]
