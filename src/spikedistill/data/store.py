"""A prepared dataset on disk: one array, its index, its split lists. Numpy only.

images.npy or frames.npy   uint8 (frames: uint16 if a count exceeds 255), C order
files.json                 instead of images.npy: images stay in the user's files; see images.ImageFiles
index.json                 what the rows are, how they were made
splits.json                row numbers of each split
splits/<name>.json         other split lists of the same rows, if the dataset has any
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
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
    """A prepared dataset, opened.

    Attributes:
        kind: "images" or "frames".
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
        """Row numbers of a split.

        Raises:
            DataError: if there is no split of that name.
        """
        if name not in self.splits:
            raise DataError(f"no split {name!r} in the prepared data; it has {', '.join(sorted(self.splits))}")
        return self.splits[name]

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Copies of some samples; of images in files, the squares in their middle."""
        if isinstance(self.samples, ImageFiles):
            return np.stack([self.samples.square(int(row)) for row in rows])
        return np.asarray(self.samples[rows])


def write_index(
    folder: Path,
    *,
    kind: Literal["images", "frames"],
    class_names: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    splits: Mapping[str, Sequence[int]],
    recipe: Mapping[str, Any],
    statistics: tuple[Sequence[float], Sequence[float]] | None = None,
    split_lists: Mapping[str, Mapping[str, Sequence[int]]] | None = None,
) -> None:
    """Write index.json and splits.json beside the array that already lies in `folder`.

    Args:
        folder: where `images.npy`, `frames.npy` or `files.json` lies.
        kind: which of the two.
        class_names: in the order of the labels.
        rows: one mapping per row with at least "id" and "label".
        splits: row numbers by the name of the split; mean and std of images are those of "train".
        recipe: how the array was made.
        statistics: mean and std of images where they are known; None: measured on "train".
        split_lists: every split that the dataset knows, by name, to be written beside: each as `splits`.

    Raises:
        DataError: if the rows or the splits do not fit the array.
    """
    samples = _open_samples(folder, kind, rows)
    if len(rows) != len(samples):
        raise DataError(f"{folder}: {len(samples)} samples, but {len(rows)} rows in the index")
    for name, members in splits.items():
        if not len(members) or min(members) < 0 or max(members) >= len(rows) or len(set(members)) != len(members):
            raise DataError(f"{folder}: split {name!r} is empty, repeats a row, or names one that does not exist")
    mean, std = (None, None) if kind == "frames" else statistics or _statistics(samples, splits["train"])
    index = {
        "schema": SCHEMA,
        "kind": kind,
        "class_names": list(class_names),
        "dtype": str(samples.dtype),
        "shape": list(samples.shape),
        "max": max(row["max"] for row in rows) if kind == "frames" else 255,
        "mean": mean,
        "std": std,
        "recipe": dict(recipe),
    }
    _write_index_file(folder / "index.json", index, rows)
    _write_split(folder / "splits.json", splits)
    for name, lists in (split_lists or {}).items():
        (folder / "splits").mkdir(exist_ok=True)
        _write_split(folder / "splits" / f"{name}.json", lists)


def _write_index_file(path: Path, index: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the index row by row: a dataset may have a great many."""
    with path.open("w", encoding="utf-8") as stream:
        stream.write(json.dumps(index, indent=1).removesuffix("\n}") + ',\n "rows": [')
        for number, row in enumerate(rows):
            stream.write(("," if number else "") + "\n  " + json.dumps(dict(row)))
        stream.write("\n ]\n}\n")


def _write_split(path: Path, splits: Mapping[str, Sequence[int]]) -> None:
    lists = {name: [int(i) for i in members] for name, members in splits.items()}
    path.write_text(json.dumps(lists) + "\n", encoding="utf-8")


def _statistics(samples: npt.NDArray[Any], rows: Sequence[int]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel over all pixels, from exact sums of a few rows at a time."""
    channels = samples.shape[1]
    total, squares = np.zeros(channels, dtype=np.int64), np.zeros(channels, dtype=np.int64)
    for start in range(0, len(rows), 1024):
        part = samples[np.asarray(rows[start : start + 1024])].astype(np.uint32)
        total += part.sum(axis=(0, 2, 3), dtype=np.int64)
        squares += (part * part).sum(axis=(0, 2, 3), dtype=np.int64)
    count = len(rows) * samples.shape[2] * samples.shape[3]
    mean = total / count
    std = np.sqrt(squares / count - mean**2)
    return [round(float(m) / 255, 6) for m in mean], [round(float(s) / 255, 6) for s in std]


def _open_samples(folder: Path, kind: str, rows: Sequence[Mapping[str, Any]]) -> Any:
    if (folder / FILES_INDEX).exists():
        return ImageFiles.open(folder, rows)
    return np.load(folder / f"{kind}.npy", mmap_mode="r")


def open_store(folder: Path, split_list: str | None = None) -> SampleStore:
    """Open a prepared dataset; the array is memory-mapped.

    Args:
        folder: the prepared dataset.
        split_list: another of its split lists, by name; None: the one that it was prepared with.

    Raises:
        DataError: if the files are missing, of another version, or do not fit each other.
    """
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        list_file = folder / ("splits.json" if split_list is None else f"splits/{split_list}.json")
        splits = json.loads(list_file.read_text(encoding="utf-8"))
        samples = _open_samples(folder, index["kind"], index["rows"])
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
