"""Bars, horizontal or vertical, at a random place of an image: generated, not downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import Field

from spikedistill.components import ComponentParams
from spikedistill.data.meta import DatasetMeta
from spikedistill.data.prepare.index import write_index

NEEDS_RAW = False  # True: the configuration names the folder of the downloaded files with `root:`
SPLIT_SAMPLES = (256, 64)  # to train and to test on, for estimates
CLASS_NAMES = ("horizontal", "vertical")


class Params(ComponentParams):
    """The size of the images."""

    side: int = Field(16, ge=8, description="Side of an image in pixels.")


def describe(params: Params) -> DatasetMeta:
    """Return the shape of the dataset, without reading a file."""
    return DatasetMeta("images", CLASS_NAMES, channels=1, height=params.side, width=params.side)


def prepare(params: Params, *, raw: Path | None, out: Path, work: Path, num_workers: int) -> None:
    """Write the images as uint8 [N, C, H, W] into `out`, and their index."""
    draws = np.random.Generator(np.random.Philox(key=0))
    count = sum(SPLIT_SAMPLES)
    labels, places = draws.integers(0, 2, count), draws.integers(0, params.side, count)
    images = draws.integers(0, 64, (count, 1, params.side, params.side), dtype=np.uint8)
    for image, label, place in zip(images, labels, places, strict=True):
        if label:
            image[:, :, place] = 255
        else:
            image[:, place] = 255
    np.save(out / "images.npy", images)
    write_index(
        out,
        kind="images",
        class_names=CLASS_NAMES,
        rows=[{"id": f"bar-{i}", "label": int(label)} for i, label in enumerate(labels)],
        splits={"train": list(range(SPLIT_SAMPLES[0])), "test": list(range(SPLIT_SAMPLES[0], count))},
        recipe=params.model_dump(mode="json"),
    )
