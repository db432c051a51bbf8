"""Handwritten digits from scikit-learn, 8 x 8 grey values: real data without a download."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spikedistill.components import ComponentParams
from spikedistill.data.formats.files import explained
from spikedistill.data.meta import DatasetMeta
from spikedistill.data.prepare.index import write_index

NEEDS_RAW = False
SPLIT_SAMPLES = (1437, 360)  # to train and to test on, for estimates
NUM_TRAIN = 1437
NUM_SAMPLES = 1797
CLASS_NAMES = tuple(str(digit) for digit in range(10))


class Params(ComponentParams):
    """No parameters: the last 360 images, by other writers than the rest, are the test split."""


def describe(params: Params) -> DatasetMeta:
    """Return classes and shape of the dataset."""
    return DatasetMeta("images", CLASS_NAMES, channels=1, height=8, width=8)


def writer_splits() -> dict[str, list[int]]:
    """Return the splits: the first 1437 samples to train on; the last 360, by other writers, to test on."""
    return {"train": list(range(NUM_TRAIN)), "test": list(range(NUM_TRAIN, NUM_SAMPLES))}


@explained
def prepare(params: Params, *, raw: Path | None, out: Path, work: Path, num_workers: int) -> None:
    """Write the images as uint8, with their grey values 0..16 scaled to 0..255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images.astype(np.int64) * 255 // 16).astype(np.uint8)[:, None]
    np.save(out / "images.npy", images)
    rows = [{"id": f"digit-{i:04d}", "label": int(label)} for i, label in enumerate(digits.target)]
    write_index(out, kind="images", class_names=CLASS_NAMES, rows=rows, splits=writer_splits(), recipe={"dataset": "digits"})
