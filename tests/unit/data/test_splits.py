"""Split lists against torch's own, SpikingJelly's own rule, and the published numbers."""

import math

import numpy as np
import pytest
import torch

from spikedistill.data.prepare import splits
from spikedistill.data.prepare.inventory import number_of, spikingjelly_order
from spikedistill.errors import DataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FILES = [(label, f"cifar10_{name}_{number}") for label, name in enumerate(CLASSES) for number in range(1000)]
LABELS = [label for label, _ in FILES]
NUMBERS = [number_of(name) for _, name in FILES]
ORDER = spikingjelly_order(CLASSES, FILES)
LISTS = splits.all_splits(LABELS, NUMBERS, ORDER)


def test_the_order_of_spikingjelly_is_that_of_strings():
    assert [FILES[row][1] for row in ORDER[:5]] == [f"cifar10_airplane_{n}" for n in (0, 1, 10, 100, 101)]


def test_every_list_takes_every_row_once():
    for rows in LISTS.values():
        assert sorted(rows["train"] + rows["test"]) == list(range(10_000))


@pytest.mark.parametrize(("count", "seed"), [(1, 0), (2, 1), (7, 42), (1000, 3)])
def test_the_permutation_is_torchs(count, seed):
    expected = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    np.testing.assert_array_equal(splits.torch_permutation(count, seed), expected)


def test_the_random_split_is_torchs_with_the_published_test_histogram():
    generator = torch.Generator().manual_seed(42)
    train, test = torch.utils.data.random_split(range(10_000), [9000, 1000], generator=generator)
    assert LISTS["random42"]["train"] == [ORDER[i] for i in train.indices]
    assert LISTS["random42"]["test"] == [ORDER[i] for i in test.indices]
    assert list(test.indices[:4]) == [59, 7560, 624, 1616]
    histogram = np.bincount([LABELS[row] for row in LISTS["random42"]["test"]]).tolist()
    assert histogram == [85, 115, 101, 102, 100, 105, 103, 97, 97, 95]


def test_the_first_hundred_of_each_class_test():
    assert {NUMBERS[row] for row in LISTS["first100"]["test"]} == set(range(100))
    assert len(LISTS["first100"]["test"]) == 1000


def test_ninety_ten_in_order_takes_the_first_of_each_class_in_spikingjellys_order():
    expected = [row for start in range(0, 10_000, 1000) for row in ORDER[start : start + 900]]
    assert LISTS["in-order"]["train"] == expected
    labels = [0] * 13 + [1] * 7
    small = splits.in_order(labels, range(20))
    assert len(small["train"]) == math.ceil(0.9 * 13) + math.ceil(0.9 * 7)


def test_the_stratified_split_has_equal_classes_and_is_not_in_order():
    assert np.bincount([LABELS[row] for row in LISTS["stratified"]["test"]]).tolist() == [100] * 10
    assert set(LISTS["stratified"]["test"]) != set(LISTS["in-order"]["test"])


def test_each_class_of_the_stratified_split_is_shuffled_in_its_own_way():
    tests = [{row % 1000 for row in LISTS["stratified"]["test"] if LABELS[row] == label} for label in (0, 1)]
    assert len(tests[0] & tests[1]) < 30  # of 100; ten are expected by chance


def test_a_list_without_a_row_to_train_or_without_one_to_test_on_is_left_out():
    assert "first100" not in splits.all_splits([0, 1], [0, 1], [0, 1])  # nothing trains
    assert "in-order" not in splits.all_splits([0, 1], [200, 201], [0, 1])  # nothing tests
    assert "first100" not in splits.all_splits([0, 1], [200, 201], [0, 1])


def test_a_split_that_leaves_nothing_to_test_on_is_refused():
    lists = splits.all_splits([0, 0, 1, 1], [0, 1, 0, 1], range(4))
    with pytest.raises(DataError, match="split 'first100' leaves nothing to train or to test on"):
        splits.chosen(lists, "first100")
