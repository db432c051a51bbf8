"""Split lists: the training rows and the test rows of a prepared dataset. Numpy only.

A list is {"train": rows, "test": rows}. Published splits number samples in SpikingJelly's order: classes by name, then files by
name, both as strings (0, 1, 10, 100, …).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from spikedistill.errors import DataError

log = logging.getLogger(__name__)

SplitName = Literal["first100", "random42", "in-order", "stratified"]
SplitList = dict[str, list[int]]

TRAIN_SHARE = 0.9
FIRST_TO_TEST = 100
RANDOM_SEED = 42
_STRATIFIED_STREAM = 7  # not one of `loading.rng.Stream`
_MAX_NAMED = 10


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


def splits_apart(rows: Sequence[Mapping[str, Any]], splits: Mapping[str, Sequence[int]]) -> None:
    """Check that no sample to train on is in another split, too: neither a row nor the "id" of one.

    Args:
        rows: with an "id" each.
        splits: row numbers by the name of the split.

    Raises:
        DataError: naming the samples.
    """
    to_train = splits.get("train", ())
    for name in splits.keys() - {"train"}:
        ids = {rows[row]["id"] for row in splits[name]}
        members = set(splits[name])
        shared = [found for row in to_train if (found := rows[row]["id"]) in ids or row in members]
        if shared:
            raise DataError(
                f"{len(shared)} samples are both to train and to {name} on: {named(shared)}; each belongs to one split"
            )


def check_twins(rows: Sequence[Mapping[str, Any]], splits: Mapping[str, Sequence[int]], *, strict: bool) -> None:
    """Check that no recording to test on is identical to one to train on, under another name.

    Args:
        rows: with "id", and size and checksums of the recording that each was made from.
        splits: row numbers by the name of the split.
        strict: raise an error; otherwise, log a warning.

    Raises:
        DataError: naming the recordings, if `strict`.
    """
    to_train = {_fingerprint(rows[row]): rows[row]["id"] for row in reversed(splits["train"])}
    tests = (rows[row] for row in splits["test"])
    pairs = [(row["id"], other) for row in tests if (other := to_train.get(_fingerprint(row))) is not None]
    tell_twins(pairs, "recordings", strict=strict)


def _fingerprint(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[key] for key in ("bytes", "events", "duration_us", "crc32", "row_crc32"))


def tell_twins(pairs: Sequence[tuple[str, str]], what: str, *, strict: bool) -> None:
    """Name identical samples of two splits, in an error or in a warning.

    Args:
        pairs: names of a sample to test on and of the same sample to train on.
        what: what the samples are called, in the plural.
        strict: raise an error; otherwise, log a warning.

    Raises:
        DataError: if `strict` and there are any pairs.
    """
    if not pairs:
        return
    text = f"{len(pairs)} {what} to test on are also to train on, with the same checksum: "
    text += named([f"{sample} = {other}" for sample, other in pairs])
    if strict:
        raise DataError(f"{text}; get these files again, or set strict: false to use what is there")
    log.warning("%s; an accuracy on them says nothing about other samples", text)


def named(names: Collection[str]) -> str:
    """Return the first names of a list, and how many more there are."""
    first = list(names)[:_MAX_NAMED]
    return ", ".join(first) + (f" and {len(names) - len(first)} more" if len(names) > len(first) else "")
