"""Reader of a prepared dataset: one array, its index, its split lists. Numpy only.

images.npy or frames.npy   uint8 (frames: uint16 if a count exceeds 255), C order
files.json                 instead of images.npy: images stay in the user's files, see `formats.images.ImageFiles`
index.json                 id, label and source of each row, and how the array was made
rows/                      instead of the rows in index.json: those of a large dataset, see `data.rows`
splits.json                row numbers of each split; splits.npz: those of a large dataset
splits/<name>.json         alternative split lists of the same rows, if the dataset has any; or splits/<name>.npz

`prepare.index` writes the index and the split lists.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.arrays import open_array
from spikedistill.data.formats.files import read_json
from spikedistill.data.formats.images import INDEX as FILES_INDEX
from spikedistill.data.formats.images import ImageFiles
from spikedistill.data.rows import Rows
from spikedistill.errors import DataError

SCHEMA = 1
_VALIDATION_KEY = 0x76616C6964617465  # "validate": the key of the generator that draws the validation split
_SUBSET_KEY = 0x7375627365747300  # "subset": that of the generator that draws fewer samples to train on


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

    def with_validation(self, amount: float) -> SampleStore:
        """Return the dataset with a split "validation", held out from "train" class by class; itself if `amount` is 0.

        The choice is a function of the labels and of `amount` alone: the same for every network and seed.

        Args:
            amount: share of the training split if below 1, else number of samples.

        Raises:
            DataError: if that leaves a class without samples in one of the two splits.
        """
        if not amount:
            return self
        train = self.split("train")
        held_out = hold_out(self.labels[train], amount)
        for name, part in (("validation", held_out), ("train", ~held_out)):
            if names := self._missing(train, train[part]):
                raise DataError(
                    f"dataset.validation {amount:g} leaves no sample of class {names} in the {name} split; "
                    f"the training split has {len(train)} samples of {len(set(self.labels[train].tolist()))} classes"
                )
        splits = {**self.splits, "train": train[~held_out], "validation": train[held_out]}
        return dataclasses.replace(self, splits=splits)

    def with_train_samples(self, number: int) -> SampleStore:
        """Return the dataset with fewer samples to train on, chosen class by class; itself if `number` is 0.

        The choice is a function of the labels alone, and a smaller one is part of a larger one, up to rounding of class shares.

        Raises:
            DataError: if there are not that many, or a class would have none.
        """
        if not number:
            return self
        train = self.split("train")
        if number > len(train):
            raise DataError(f"dataset.train_samples {number}: there are {len(train)} samples to train on")
        part = train[hold_out(self.labels[train], number, key=_SUBSET_KEY)]
        if names := self._missing(train, part):
            raise DataError(f"dataset.train_samples {number} leaves no sample of class {names} to train on")
        return dataclasses.replace(self, splits={**self.splits, "train": part})

    def _missing(self, rows: npt.NDArray[np.int64], part: npt.NDArray[np.int64]) -> str:
        """Return the names of the first classes that are in `rows`, but not in `part`."""
        missing = sorted(set(self.labels[rows].tolist()) - set(self.labels[part].tolist()))
        return ", ".join(self.class_names[label] for label in missing[:10])

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return copies of some samples; of images in files, their middle squares."""
        if isinstance(self.samples, ImageFiles):
            return np.stack([self.samples.square(int(row)) for row in rows])
        return np.asarray(self.samples[rows])


def open_samples(folder: Path, kind: str, rows: Sequence[Mapping[str, Any]]) -> Any:
    """Open the memory-mapped array of a prepared dataset, or its images in files.

    Raises:
        DataError: if it cannot be read.
    """
    if (folder / FILES_INDEX).exists():
        return ImageFiles.open(folder, rows)
    return open_array(folder / f"{kind}.npy")


def open_store(folder: Path, split_list: str | None = None) -> SampleStore:
    """Open a prepared dataset; the array is memory-mapped.

    Args:
        folder: the prepared dataset.
        split_list: name of an alternative split list; None: the one that it was prepared with.

    Raises:
        DataError: if the files are missing, damaged, of another version, or do not fit each other.
    """
    in_files = (folder / FILES_INDEX).exists()
    with _damages_told(folder):
        index = read_json(folder / "index.json")
        split_lists = _split_lists(folder / ("splits.json" if split_list is None else f"splits/{split_list}.json"))
        kind, class_names = index["kind"], tuple(index["class_names"])
        if index["schema"] != SCHEMA or kind not in ("images", "frames"):
            raise DataError("index.json is of another version")
        rows, found = _rows(folder, index["rows"])
        labels = _integers(found, "labels", len(class_names))
        splits = {name: _integers(members, f"split {name}", len(rows)) for name, members in split_lists.items()}
        mean, std = (_per_channel(index[key]) for key in ("mean", "std"))
        array = None if in_files else open_array(folder / f"{kind}.npy")
    samples = array if array is not None else ImageFiles.open(folder, rows)
    fits = list(samples.shape) == index.get("shape") and len(samples) == len(rows)
    fits &= len(samples.shape) == (4 if kind == "images" else 5)
    if not fits or any(len(each) != samples.shape[-3] for each in (mean, std) if each is not None):
        raise DataError(f"{folder}: array and index do not fit each other; run the preprocess stage again")
    return SampleStore(kind=kind, samples=samples, labels=labels, splits=splits, class_names=class_names, mean=mean, std=std)


@contextlib.contextmanager
def _damages_told(folder: Path) -> Iterator[None]:
    try:
        yield
    except (DataError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as err:
        said = f"index.json or a split list lacks {err}" if isinstance(err, KeyError) else err
        raise DataError(f"{folder}: not a prepared dataset ({said}); run the preprocess stage again") from err


def _rows(folder: Path, entry: Any) -> tuple[Sequence[Mapping[str, Any]], Any]:
    """Return the rows of an index, and their labels, which are not checked."""
    if isinstance(entry, list):
        return entry, [row["label"] for row in entry]
    columns = Rows(folder, entry)
    return columns, columns.labels


def _split_lists(path: Path) -> Mapping[str, Any]:
    """Return the lists of rows of each split, from a file of JSON or, of a large dataset, of numpy."""
    in_numpy = path.with_suffix(".npz")
    if path.exists() or not in_numpy.exists():
        found: Mapping[str, Any] = read_json(path)
        return found
    try:
        with np.load(in_numpy, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as err:  # damaged bytes can make the reader raise anything
        raise DataError(f"{in_numpy.name}: cannot be read ({err})") from err


def _integers(values: Any, what: str, limit: int) -> npt.NDArray[np.int64]:
    """Return a list or vector of integers from 0 to `limit` - 1 as a vector."""
    found = np.asanyarray(values)
    if not isinstance(values, list | np.ndarray) or found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise DataError(f"{what}: not a list of whole numbers")
    if found.size and not 0 <= found.min() <= found.max() < limit:
        raise DataError(f"{what}: numbers from {found.min()} to {found.max()}, expected 0 to {limit - 1}")
    return found.astype(np.int64, copy=False)


def _per_channel(values: Any) -> tuple[float, ...] | None:
    return tuple(float(value) for value in values) if values else None


def hold_out(labels: npt.NDArray[np.int64], amount: float, *, key: int = _VALIDATION_KEY) -> npt.NDArray[np.bool_]:
    """Choose samples at random, class by class in proportion.

    Args:
        labels: class of each sample [N].
        amount: share of the samples if below 1, else their number.
        key: of the generator; the same key chooses the same samples.

    Returns:
        Bool [N], True for the chosen ones. Shares of classes are rounded so that they add up (largest remainders first).
    """
    words = np.random.Philox(key=[key, 0]).random_raw(len(labels))
    classes, counts = np.unique(labels, return_counts=True)
    total = round(amount * len(labels)) if amount < 1 else int(amount)
    exact = counts * min(total, len(labels)) / len(labels)
    quota = np.floor(exact).astype(np.int64)
    for at in np.argsort(quota - exact, kind="stable")[: min(total, len(labels)) - int(quota.sum())]:
        quota[at] += 1
    chosen = np.zeros(len(labels), dtype=bool)
    for label, count in zip(classes, quota, strict=True):
        rows = np.flatnonzero(labels == label)
        chosen[rows[np.argsort(words[rows], kind="stable")[:count]]] = True
    return chosen
