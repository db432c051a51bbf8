"""Splits of users' own samples: found by name, or drawn class by class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from spikedistill.components import Section
from spikedistill.errors import DataError

TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation")
_STREAM = 11  # of the generator; not one of `loading.rng.Stream`, nor that of `splits.stratified`


class Parts(Section):
    """What the splits are called: folders, or values of a column."""

    train: str = Field(min_length=1, description="Folder, or value of the column split, to train on.")
    test: str = Field(min_length=1, description="Likewise, to test on.")


class Draw(Section):
    """How a split is drawn, class by class, from all samples in the order of their paths."""

    test: float = Field(gt=0, lt=1, description="Share to test on; at least one sample of each class.")
    seed: int = Field(0, ge=0, lt=2**63, description="Another seed draws another split.")


def found_parts(names: set[str], stated: Parts | None, place: str) -> Parts | None:
    """Return which of some names are the splits.

    Args:
        names: of folders, or values of a column.
        stated: what they are called, if it is stated.
        place: where the names are, for messages.

    Returns:
        None if they are not splits.

    Raises:
        DataError: if the stated ones are not among them, or more than one could be the test split.
    """
    if stated is not None:
        missing = [name for name in (stated.train, stated.test) if name not in names]
        if missing or stated.train == stated.test:
            raise DataError(
                f"{place}: dataset.params.parts names {stated.train!r} and {stated.test!r}, expected two of: "
                f"{', '.join(sorted(names))}"
            )
        return stated
    train = [name for name in sorted(names) if name.lower() in TRAIN]
    test = [name for name in sorted(names) if name.lower() in TEST]
    if not train or not test:
        return None
    if len(train) > 1 or len(test) > 1:
        raise DataError(
            f"{place}: {', '.join(train + test)} are there; state which to use, for instance "
            f"dataset.params.parts: {{train: {train[0]}, test: {test[0]}}}"
        )
    return Parts(train=train[0], test=test[0])


def drawn(labels: Sequence[int], how: Draw, class_names: Sequence[str]) -> dict[str, list[int]]:
    """Draw a split, class by class; the same for the same labels and seed on every machine.

    Args:
        labels: class of each sample, in the order of the paths.
        how: share and seed.
        class_names: for messages.

    Raises:
        DataError: if a class has a single sample, which cannot be on both sides.
    """
    lists: dict[str, list[int]] = {"train": [], "test": []}
    of_class = np.asarray(labels)
    for label, name in enumerate(class_names):
        rows = np.flatnonzero(of_class == label)
        if rows.size < 2:
            raise DataError(f"class {name!r} has {rows.size} sample, and a drawn split needs two or more of each class")
        words = np.random.Philox(key=[how.seed, (label << 8) | _STREAM]).random_raw(rows.size)
        order = rows[np.argsort(words, kind="stable")]
        num_test = min(max(1, round(how.test * rows.size)), rows.size - 1)
        lists["test"] += sorted(order[:num_test].tolist())
        lists["train"] += sorted(order[num_test:].tolist())
    return lists
