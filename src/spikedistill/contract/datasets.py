"""What every dataset promises: of its description, and of what it prepares if it needs no files of the user."""

from __future__ import annotations

import filecmp
import json
import tempfile
from pathlib import Path
from types import ModuleType

from spikedistill.contract.findings import require, require_description
from spikedistill.data.meta import DatasetMeta
from spikedistill.data.store import SampleStore, open_store


def describes_itself(dataset: ModuleType) -> None:
    """The docstring, `NEEDS_RAW`, `Params` and `describe` say what the dataset is; without `scan`, before a file is read."""
    require_description(dataset, "dataset")
    require(isinstance(dataset.NEEDS_RAW, bool), f"NEEDS_RAW is True or False; found {dataset.NEEDS_RAW!r}")
    if hasattr(dataset, "scan"):
        require(callable(dataset.scan), "scan is a function (params, raw) -> params")
        return  # only the folder says the rest
    meta = dataset.describe(dataset.Params())
    require(meta.num_classes > 1, f"describe names at least two classes; found {meta.num_classes}")
    require((meta.kind == "frames") == (meta.num_frames is not None), "num_frames is for kind 'frames', and needed there")


def prepares_what_it_describes(dataset: ModuleType) -> None:
    """What `prepare` writes opens, has the shape and the classes of `describe`, and is the same when made again."""
    if dataset.NEEDS_RAW:
        return
    params = dataset.Params()
    with tempfile.TemporaryDirectory() as name:
        one, other = Path(name, "one"), Path(name, "other")
        for folder in (one, other):
            work = folder.with_suffix(".work")
            folder.mkdir()
            work.mkdir()
            dataset.prepare(params, raw=None, out=folder, work=work, num_workers=2)
        _compare(open_store(one), dataset.describe(params))
        files = sorted(str(path.relative_to(one)) for path in one.rglob("*") if path.is_file())
        _, differing, _ = filecmp.cmpfiles(one, other, files, shallow=False)
        require(
            not differing, f"prepare writes the same files each time, whatever the machine; differing: {', '.join(differing)}"
        )
        json.loads((one / "index.json").read_text(encoding="utf-8"))


def _compare(store: SampleStore, meta: DatasetMeta) -> None:
    require(store.num_classes == meta.num_classes, f"{meta.num_classes} classes described, {store.num_classes} prepared")
    sample = tuple(store.take(store.split("train")[:1]).shape[1:])
    described = (meta.channels, meta.height, meta.width)
    expected = described if meta.num_frames is None else (meta.num_frames, *described)
    require(sample == expected, f"samples of shape {expected} described, {sample} prepared")
    for split in ("train", "test"):
        require(len(store.split(split)) > 0, f"split {split!r} has samples")


CHECKS = (describes_itself, prepares_what_it_describes)
"""Checks of a dataset."""
