"""Writer of the index and the split lists of a prepared dataset, which `data.store` reads. Numpy only."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from spikedistill.data.prepare.splits import splits_apart
from spikedistill.data.rows import LARGE, write_columns
from spikedistill.data.store import SCHEMA, open_samples
from spikedistill.errors import DataError

log = logging.getLogger(__name__)


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
    """Write index.json and splits.json beside the array that already lies in `folder`; of a large dataset see `data.rows`.

    Args:
        folder: holds `images.npy`, `frames.npy` or `files.json`.
        kind: of the samples.
        class_names: in the order of the labels.
        rows: one mapping per row, with at least "id" and "label".
        splits: row numbers by the name of the split.
        recipe: the dataset and the parameters that the array was made with.
        statistics: mean and std of images where they are known; None: measure them on split "train".
        split_lists: all alternatives to `splits`, by name, written to splits/<name>.json, or .npz.

    Raises:
        DataError: if the rows or the splits do not fit the array, or a sample to train on is in another split, too.
    """
    samples = open_samples(folder, kind, rows)
    if len(rows) != len(samples):
        raise DataError(f"{folder}: {len(samples)} samples, but {len(rows)} rows in the index")
    for name, members in splits.items():
        if not len(members) or min(members) < 0 or max(members) >= len(rows) or len(set(members)) != len(members):
            raise DataError(f"{folder}: split {name!r} is empty, repeats a row, or names one that does not exist")
    splits_apart(rows, splits)
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
    _write_index_file(folder, index, rows)
    _write_split(folder / "splits", splits)
    for name, lists in (split_lists or {}).items():
        (folder / "splits").mkdir(exist_ok=True)
        _write_split(folder / "splits" / name, lists)


def _write_index_file(folder: Path, index: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the index, with one line for each row; the rows of a large dataset become columns."""
    if len(rows) >= LARGE:
        lines = json.dumps(write_columns(folder, rows))
    else:
        lines = "[" + ",".join("\n  " + json.dumps(dict(row)) for row in rows) + "\n ]"
    text = json.dumps(index, indent=1).removesuffix("\n}") + f',\n "rows": {lines}\n}}\n'
    (folder / "index.json").write_text(text, encoding="utf-8")


def _write_split(path: Path, splits: Mapping[str, Sequence[int]]) -> None:
    """Write the lists of rows of each split to a file of this name: as JSON, or as arrays if they are long."""
    if sum(len(members) for members in splits.values()) >= LARGE:
        arrays: dict[str, Any] = {name: np.asarray(members, dtype=np.int64) for name, members in splits.items()}
        np.savez(path, **arrays)
        return
    lists = {name: [int(i) for i in members] for name, members in splits.items()}
    path.with_name(f"{path.name}.json").write_text(json.dumps(lists) + "\n", encoding="utf-8")


def _statistics(samples: npt.NDArray[Any], rows: Sequence[int]) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation per channel over all pixels, from exact sums of some rows at a time."""
    channels = samples.shape[1]
    total, squares = np.zeros(channels, dtype=np.int64), np.zeros(channels, dtype=np.int64)
    for start in range(0, len(rows), 1024):
        part = samples[np.asarray(rows[start : start + 1024])].astype(np.uint32)
        total += part.sum(axis=(0, 2, 3), dtype=np.int64)
        squares += (part * part).sum(axis=(0, 2, 3), dtype=np.int64)
    count = len(rows) * samples.shape[2] * samples.shape[3]
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    rounded = [round(float(s) / 255, 6) for s in std]
    if constant := [channel for channel, value in enumerate(rounded) if value == 0]:
        log.warning("channels %s have one value in all training samples: they are not scaled", constant)
    return [round(float(m) / 255, 6) for m in mean], [value or 1.0 for value in rounded]
