"""Any event dataset of SpikingJelly, integrated to frames by its own code: DVS128Gesture, ASLDVS, HARDVS, DVSLip and others."""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from spikedistill.components import ComponentParams, unknown
from spikedistill.data.formats import archives
from spikedistill.data.formats.arrays import create_array, flush, write_row
from spikedistill.data.formats.files import explained
from spikedistill.data.formats.spikingjelly_classes import Found, find_class, names
from spikedistill.data.meta import DatasetMeta
from spikedistill.data.prepare import splits
from spikedistill.data.prepare.index import write_index
from spikedistill.data.prepare.own_splits import Draw, drawn
from spikedistill.errors import DataError

log = logging.getLogger(__name__)

NEEDS_RAW = True
FOLDERS = ("download", "extract", "events_np")  # of SpikingJelly's layout, in the order in which it makes them
MAX_COUNT = 65535


class Params(ComponentParams):
    """Which dataset, and how its events become frames."""

    dataset: str | None = Field(None, description="Class of spikingjelly.datasets, such as DVS128Gesture.")
    num_frames: int = Field(10, ge=1, description="Frames T per recording.")
    split_by: Literal["number", "time"] = Field("number", description="Frames with equal numbers of events, or of equal time.")
    split: Draw | None = Field(
        None, description="For a dataset without a split of its own: draw one, class by class, as in {test: 0.1, seed: 0}."
    )
    classes: tuple[str, ...] | None = Field(
        None,
        min_length=2,
        description="Names of the classes in SpikingJelly's order. Default: the class folders, if they are there.",
    )
    content: str | None = Field(
        None, description="Digest of names and sizes of the files in root. Found, not set: a changed folder gets a new id."
    )


class Part(NamedTuple):
    """The samples of one split, or all: what SpikingJelly made, and the folder that their ids are relative to."""

    name: str
    samples: Any


def describe(params: Params) -> DatasetMeta:
    """Return classes and shape of the dataset; the classes are stated or were found by `scan`."""
    if params.classes is None:
        raise DataError("spikingjelly-frames: classes are not known: state them, or name the folder (dataset.root)")
    height, width = _class_of(params).size
    return DatasetMeta("frames", params.classes, channels=2, height=height, width=width, num_frames=params.num_frames)


def scan(params: Params, raw: Path) -> Params:
    """Return the parameters with classes and content of the folder, which has SpikingJelly's layout.

    Raises:
        DataError: if there is no such dataset, or the folder does not say its classes.
    """
    found = _class_of(params)
    if found.has_split and params.split is not None:
        raise DataError(f"{params.dataset} has a split of its own; remove dataset.params.split")
    if not found.has_split and params.split is None:
        raise DataError(
            f"{params.dataset} has no split of its own; draw one, for instance dataset.params.split: {{test: 0.1, seed: 0}}"
        )
    if params.classes and params.content:
        return params
    return params.model_copy(update={"classes": params.classes or _classes(raw), "content": _content(raw)})


def summary(params: Params) -> str:
    """Return what was stated or found, in one line."""
    return f"spikingjelly.datasets.{params.dataset}, {len(params.classes or ())} classes"


@explained
def prepare(params: Params, *, raw: Path | None, out: Path, work: Path, num_workers: int) -> None:
    """Have SpikingJelly integrate the recordings in `raw`, through links in `work`: nothing is written to `raw` or downloaded.

    Raises:
        DataError: if files are missing or differ, or SpikingJelly fails.
    """
    assert raw is not None
    params = scan(params, raw)
    if (now := _content(raw)) != params.content:
        raise DataError(f"{raw}: not the files that this was planned with (digest {now}, planned {params.content}); plan again")
    folder = _linked(raw, work / "spikingjelly")
    parts = _made(params, raw, folder, num_workers)
    for part in parts:
        if tuple(part.samples.classes) != params.classes:
            found = ", ".join(part.samples.classes)
            raise DataError(f"{raw}: SpikingJelly finds other classes; state dataset.params.classes: [{found}]")
    every = [(part.name, number, part.samples) for part in parts for number in range(len(part.samples))]
    rows, lists = _write(every, params, out / "frames.npy", folder)
    recipe = {"dataset": "spikingjelly-frames", **params.model_dump(mode="json")}
    write_index(out, kind="frames", class_names=params.classes or (), rows=rows, splits=lists, recipe=recipe)


def _class_of(params: Params) -> Found:
    found = find_class(params.dataset) if params.dataset else None
    if found is None:
        raise DataError(f"dataset.params.dataset: {unknown('dataset of SpikingJelly', params.dataset or '(none)', names())}")
    return found


def _content(raw: Path) -> str:
    digest = hashlib.sha256()
    for name in FOLDERS:
        for member in archives.files_below(raw / name) if (raw / name).is_dir() else ():
            path = os.path.relpath(member.path, raw)
            digest.update(f"{path}\0{os.stat(member.path).st_size}\n".encode("utf-8", "surrogateescape"))  # noqa: PTH116
    return digest.hexdigest()[:32]


def _classes(raw: Path) -> tuple[str, ...]:
    """Return the names of the class folders."""
    for top in ("events_np", "extract"):
        for below in ("train", "Train", ""):
            folder = raw / top / below
            found = sorted(e.name for e in os.scandir(folder) if e.is_dir()) if folder.is_dir() else []
            if len(found) > 1:
                return tuple(found)
    raise DataError(
        f"{raw}: no class folders in events_np or extract; state dataset.params.classes, a list in SpikingJelly's order"
    )


def _linked(raw: Path, folder: Path) -> Path:
    """Return a folder like the user's, of links to single files: SpikingJelly deletes downloads that differ, and adds files."""
    folder = folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    if not any((raw / name).is_dir() for name in FOLDERS):
        raise DataError(f"{raw}: expected SpikingJelly's layout: a folder {', '.join(FOLDERS[:-1])} or {FOLDERS[-1]}")
    for name in FOLDERS:
        for member in archives.files_below(raw / name) if (raw / name).is_dir() else ():
            link = folder / os.path.relpath(member.path, raw)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(Path(member.path).resolve())
    (folder / "download").mkdir(parents=True, exist_ok=True)
    return folder


def _made(params: Params, raw: Path, folder: Path, num_workers: int) -> list[Part]:
    """Have SpikingJelly make its frames."""
    try:
        from spikingjelly import configure, datasets
    except Exception as err:  # torchaudio may be broken, for instance
        raise DataError(f"spikingjelly.datasets cannot be imported: {err!r}; see README.md, Installation") from err
    original = getattr(datasets, params.dataset or "")
    if not any((raw / name).is_dir() for name in FOLDERS[1:]):
        _check_downloads(original, raw)
    made = type(original.__name__, (original,), {"_check_downloaded_files": classmethod(lambda cls, download_root: None)})
    configure.max_threads_number_for_datasets_preprocess = num_workers
    options = {"data_type": "frame", "frames_number": params.num_frames, "split_by": params.split_by}
    flags = {"train": True, "test": False} if "train" in inspect.signature(original.__init__).parameters else {"all": None}
    try:
        return [Part(name, made(folder, **({} if flag is None else {"train": flag}), **options)) for name, flag in flags.items()]
    except DataError:
        raise
    except Exception as err:  # whatever its code meets in damaged files
        log.info("SpikingJelly failed", exc_info=True)
        raise DataError(f"{raw}: SpikingJelly's {params.dataset} cannot read it: {err!r}; get the files again") from err


def _check_downloads(original: Any, raw: Path) -> None:
    """Check that all downloads are there, as published, before SpikingJelly looks at them."""
    published = {raw / "download" / name: md5 for name, _, md5 in original.resource_url_md5()}
    missing = [path.name for path in published if not path.is_file()]
    if missing:
        addresses = sorted({url for _, url, _ in original.resource_url_md5()})
        raise DataError(f"{raw / 'download'}: missing {splits.named(missing)}; get them from {splits.named(addresses)}")
    archives.check_md5({path: md5 for path, md5 in published.items() if md5})


def _write(
    every: Sequence[tuple[str, int, Any]], params: Params, path: Path, folder: Path
) -> tuple[list[dict[str, Any]], dict[str, list[int]]]:
    """Write all frames as one array; return the rows of the index, and the splits."""
    meta = describe(params)
    rows: list[dict[str, Any]] = []
    lists: dict[str, list[int]] = {"train": [], "test": []}
    shape = (params.num_frames, 2, meta.height, meta.width)
    for row, (frames, label, name) in enumerate(_samples(every, shape, folder)):
        rows.append({"id": name, "label": label, "max": int(frames.max()), "events": int(frames.sum())})
        lists.get(every[row][0], []).append(row)
    if not rows:
        raise DataError(f"{folder}: SpikingJelly finds no samples")
    dtype = np.dtype(np.uint8 if max(row["max"] for row in rows) <= 255 else np.uint16)
    create_array(path, dtype, (len(rows), *shape), "frames")
    with path.open("r+b", buffering=0) as stream:
        for row, (frames, _, _) in enumerate(_samples(every, shape, folder)):
            write_row(stream.fileno(), frames.astype(dtype), row, path)
        flush(stream.fileno(), path)
    if params.split is not None:
        lists = drawn([row["label"] for row in rows], params.split, meta.class_names)
    return rows, lists


def _samples(
    every: Sequence[tuple[str, int, Any]], shape: tuple[int, ...], folder: Path
) -> Iterator[tuple[npt.NDArray[np.int64], int, str]]:
    """Yield frames, label and id of every sample."""
    for part, number, samples in every:
        frames, label = samples[number]
        path = os.path.relpath(samples.samples[number][0], folder)
        name = path if part == "all" else f"{part}/{number}-{path}"
        counts = np.asarray(frames)
        if counts.shape != shape:
            raise DataError(f"{name}: SpikingJelly made frames of shape {list(counts.shape)}, expected {list(shape)}")
        if not (counts.min() >= 0 and counts.max() <= MAX_COUNT and (counts == np.floor(counts)).all()):
            raise DataError(f"{name}: SpikingJelly made frames that are no counts up to {MAX_COUNT}")
        if not counts.max():
            raise DataError(f"{name}: SpikingJelly made frames without events of it; damaged? Get the file again")
        yield counts.astype(np.int64), int(label), name
