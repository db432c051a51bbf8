"""Reader of a prepared dataset: one array, its index, its split lists. Numpy only.

images.npy or frames.npy   uint8 (frames: uint16 if a count exceeds 255), C order
files.json                 instead of images.npy: images stay in the user's files, see `formats.images.ImageFiles`
index.json                 id, label and source of each row, and how the array was made
splits.json                row numbers of each split
splits/<name>.json         alternative split lists of the same rows, if the dataset has any

`prepare.index` writes the index and the split lists.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.images import INDEX as FILES_INDEX
from spikedistill.data.formats.images import ImageFiles
from spikedistill.errors import DataError

SCHEMA = 1


@dataclass(frozen=True)
class SampleStore:
    """An opened prepared dataset.

    Attributes:
        kind: "images" or "frames" (integrated events).
        samples: memory-mapped [N, C, H, W] or [N, T, 2, H, W]; or images in files.
        labels: int64 [N].
        splits: row numbers by the name of the split.
        class_names: in the order of the labels.
        mean: per channel of images, in [0, 1]; None for frames.
        std: per channel of images, in [0, 1]; None for frames.
    """

    kind: Literal["images", "frames"]
    samples: npt.NDArray[Any] | ImageFiles
    labels: npt.NDArray[np.int64]
    splits: dict[str, npt.NDArray[np.int64]]
    class_names: tuple[str, ...]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """C of an image, 2 for event frames."""
        return int(self.samples.shape[-3])

    def split(self, name: str) -> npt.NDArray[np.int64]:
        """Return the row numbers of a split.

        Raises:
            DataError: if there is no split of that name.
        """
        if name not in self.splits:
            raise DataError(f"no split {name!r} in the prepared data; it has {', '.join(sorted(self.splits))}")
        return self.splits[name]

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return copies of some samples; of images in files, the squares in their middle."""
        if isinstance(self.samples, ImageFiles):
            return np.stack([self.samples.square(int(row)) for row in rows])
        return np.asarray(self.samples[rows])


def open_samples(folder: Path, kind: str, rows: Sequence[Mapping[str, Any]]) -> Any:
    """Open the memory-mapped array of a prepared dataset, or its images in files."""
    if (folder / FILES_INDEX).exists():
        return ImageFiles.open(folder, rows)
    return np.load(folder / f"{kind}.npy", mmap_mode="r")


def open_store(folder: Path, split_list: str | None = None) -> SampleStore:
    """Open a prepared dataset; the array is memory-mapped.

    Args:
        folder: the prepared dataset.
        split_list: name of an alternative split list; None: the one that it was prepared with.

    Raises:
        DataError: if the files are missing, of another version, or do not fit each other.
    """
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        list_file = folder / ("splits.json" if split_list is None else f"splits/{split_list}.json")
        splits = json.loads(list_file.read_text(encoding="utf-8"))
        samples = open_samples(folder, index["kind"], index["rows"])
    except (OSError, ValueError, KeyError) as err:
        raise DataError(f"{folder}: not a prepared dataset ({err}); run the preprocess stage again") from err
    if index["schema"] != SCHEMA or list(samples.shape) != index["shape"]:
        raise DataError(f"{folder}: array and index do not fit each other; run the preprocess stage again")
    return SampleStore(
        kind=index["kind"],
        samples=samples,
        labels=np.array([row["label"] for row in index["rows"]], dtype=np.int64),
        splits={name: np.array(rows, dtype=np.int64) for name, rows in splits.items()},
        class_names=tuple(index["class_names"]),
        mean=tuple(index["mean"]) if index["mean"] else None,
        std=tuple(index["std"]) if index["std"] else None,
    )
