"""Split lists: the rows of a prepared dataset that train and those that test. Numpy only.

A list is {"train": rows, "test": rows}. Published splits count in SpikingJelly's order: classes by name, then files by name, both
as strings (0, 1, 10, 100, …).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from spikedistill.errors import DataError

SplitName = Literal["first100", "random42", "in-order", "stratified"]
SplitList = dict[str, list[int]]

TRAIN_SHARE = 0.9
FIRST_TO_TEST = 100
RANDOM_SEED = 42
_STRATIFIED_STREAM = 7  # not one of `loading.rng.Stream`


def all_splits(labels: Sequence[int], numbers: Sequence[int], order: Sequence[int]) -> dict[str, SplitList]:
    """Return all split lists of a dataset that has no official one, except those with an empty half.

    Args:
        labels: class of each row.
        numbers: number in each row's file name.
        order: all rows in SpikingJelly's order.
    """
    lists = {
        "first100": first_per_class(numbers, FIRST_TO_TEST),
        "random42": random_split(order, RANDOM_SEED),
        "in-order": in_order(labels, order),
        "stratified": stratified(labels, order),
    }
    return {name: rows for name, rows in lists.items() if rows["train"] and rows["test"]}


def chosen(lists: dict[str, SplitList], name: str) -> SplitList:
    """Return the list called `name`.

    Raises:
        DataError: if `all_splits` left it out because it would leave nothing to train or to test on.
    """
    if name not in lists:
        raise DataError(
            f"split {name!r} leaves nothing to train or to test on: too few recordings; possible here: {', '.join(lists)}"
        )
    return lists[name]


def first_per_class(numbers: Sequence[int], count: int) -> SplitList:
    """Put recordings 0 … count-1 of each class into "test", the others into "train".

    This is the split of the TEBN paper, with 100 of 1000. Accuracies on it are typically much higher than on a random split.
    """
    test = np.asarray(numbers) < count
    return {"train": np.flatnonzero(~test).tolist(), "test": np.flatnonzero(test).tolist()}


def random_split(order: Sequence[int], seed: int) -> SplitList:
    """Put the first nine tenths of a random order into "train".

    For 10,000 recordings this equals
    `torch.utils.data.random_split(dataset, [9000, 1000], generator=torch.Generator().manual_seed(seed))`.
    """
    shuffled = np.asarray(order)[torch_permutation(len(order), seed)].tolist()
    num_train = int(TRAIN_SHARE * len(order))
    return {"train": shuffled[:num_train], "test": shuffled[num_train:]}


def torch_permutation(count: int, seed: int) -> npt.NDArray[np.int64]:
    """Return `torch.randperm(count)` of a CPU generator with this seed: swaps by the raw words of a Mersenne twister."""
    twister = np.random.MT19937()
    twister.state = np.random.RandomState(seed).get_state(legacy=False)  # type: ignore[assignment]
    words = twister.random_raw(count).tolist()
    order = list(range(count))
    for position in range(count - 1):
        other = position + words[position] % (count - position)
        order[position], order[other] = order[other], order[position]
    return np.array(order, dtype=np.int64)


def in_order(labels: Sequence[int], order: Sequence[int]) -> SplitList:
    """Put the first nine tenths of each class, rounded up, into "train": SpikingJelly's `split_to_train_test_set(0.9, …)`."""
    return _per_class(_by_class(labels, order))


def stratified(labels: Sequence[int], order: Sequence[int]) -> SplitList:
    """Put a random nine tenths of each class, rounded up, into "train"."""
    shuffled = {}
    for label, rows in _by_class(labels, order).items():
        words = np.random.Philox(key=[RANDOM_SEED, (label << 8) | _STRATIFIED_STREAM]).random_raw(len(rows))
        shuffled[label] = [rows[i] for i in np.argsort(words, kind="stable")]
    return _per_class(shuffled)


def _by_class(labels: Sequence[int], order: Sequence[int]) -> dict[int, list[int]]:
    classes: dict[int, list[int]] = {label: [] for label in sorted(set(labels))}
    for row in order:
        classes[labels[row]].append(row)
    return classes


def _per_class(classes: dict[int, list[int]]) -> SplitList:
    split: SplitList = {"train": [], "test": []}
    for rows in classes.values():
        num_train = math.ceil(TRAIN_SHARE * len(rows))
        split["train"] += rows[:num_train]
        split["test"] += rows[num_train:]
    return split
