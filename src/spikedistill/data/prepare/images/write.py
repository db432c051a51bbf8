"""Images of a dataset as one array, packed into a few large files, or decoded once to find those that are damaged. Numpy only.

packed/00000.bin          the files of the first 2048 rows as they are, or smaller pictures that were made of them; and so on
entry_points/00000.bin    the entry points of the files of these rows

The order of packed images is drawn once, the same on every machine. So neighbouring rows are of many classes, and a reader that
takes them in large pieces gets samples that are mixed well.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.files import link
from spikedistill.data.formats.images import POINTS_KEYS, ImageFiles
from spikedistill.data.prepare.blocks.packs import PackTarget
from spikedistill.data.prepare.images.helpers import lead
from spikedistill.data.prepare.images.tasks import ARRAY, PACKED, POINTS, Task, make
from spikedistill.data.prepare.images.work import ImageWork, convert_all

_ORDER_KEY = 0x7061636B65640000  # "packed": the key of the generator that draws the order

Row = TypeVar("Row")
Sums = npt.NDArray[np.uint64]
"""Size and CRC-32 of each file in one number; see `ImageFiles.twins`."""


def write_array(files: ImageFiles, out: Path, *, work: Path, num_workers: int) -> Sums:
    """Write the values of all images as one array, `out/images.npy`, uint8 [N, C, H, W].

    Args:
        files: the images.
        out: folder to write to.
        work: folder that survives an interruption, on the file system of `out`: the next run goes on from what is there.
        num_workers: number of processes.

    Raises:
        DataError: naming the images that cannot be used; or if the disk lacks space.
    """
    _, sums, _ = _done("array", files, {}, work, num_workers)
    link(work / "array" / ARRAY, out / ARRAY)
    return sums


def verify(files: ImageFiles, *, work: Path, num_workers: int) -> Sums:
    """Decode every image once; for the arguments see `write_array`.

    Raises:
        DataError: naming the images that cannot be decoded, after all were tried.
    """
    return _done("verified", files, {}, work, num_workers)[1]


def write_packed(
    files: ImageFiles, out: Path, options: Mapping[str, Any], *, work: Path, num_workers: int
) -> tuple[Sums, list[dict[str, Any]]]:
    """Write the files of all images to `out/packed`, in the order of the rows.

    Args:
        files: the images.
        out: folder to write to.
        options: what `tasks.packing` returned.
        work: as in `write_array`.
        num_workers: number of processes.

    Returns:
        The sums; and for each row what an index says of the place of its image, below `out`.

    Raises:
        DataError: naming the images that cannot be used; or if the disk lacks space.
    """
    return _in_files("packed", files, options, out, PACKED, ("archive", "offset", "size"), work, num_workers)


def write_entry_points(
    files: ImageFiles, out: Path, *, verify: bool, work: Path, num_workers: int
) -> tuple[Sums, list[dict[str, Any]]]:
    """Write the entry points of all images to `out/entry_points`, in the order of the rows.

    Args:
        files: the images.
        out: folder to write to.
        verify: whether images are decoded, to find damaged ones.
        work: as in `write_array`.
        num_workers: number of processes.

    Returns:
        As `write_packed`, of the entry points of each image.

    Raises:
        DataError: as `write_packed`.
    """
    return _in_files("points", files, {"verify": verify}, out, POINTS, POINTS_KEYS, work, num_workers)


def _in_files(
    task: Task,
    files: ImageFiles,
    options: Mapping[str, Any],
    out: Path,
    folder: str,
    keys: tuple[str, str, str],
    work: Path,
    num_workers: int,
) -> tuple[Sums, list[dict[str, Any]]]:
    """Do a task that writes a file for each block; return the sums, and the place of each row by keys of the index."""
    doing, sums, target = _done(task, files, options, work, num_workers)
    assert isinstance(target, PackTarget)
    (out / folder).mkdir(exist_ok=True)
    for block in range(len(doing.bounds) - 1):
        link(target.path(block), out / folder / target.path(block).name)
    found: list[dict[str, Any]] = []
    for block, (start, stop) in enumerate(itertools.pairwise(doing.bounds)):
        sizes = doing.facts["size"][start:stop].astype(np.int64)
        path = f"{folder}/{target.path(block).name}"
        places = zip(itertools.repeat(path), (np.cumsum(sizes) - sizes).tolist(), sizes.tolist(), strict=False)
        found += [dict(zip(keys, place, strict=True)) for place in places]
    return sums, found


def _done(
    task: Task, files: ImageFiles, options: Mapping[str, Any], work: Path, num_workers: int
) -> tuple[ImageWork, Sums, object]:
    folder = work / task
    folder.mkdir(exist_ok=True)
    doing, target = make(task, files, folder, options)
    share = lead(task, files, doing, target, options, work)
    return doing, convert_all(doing, target, folder=folder, num_workers=num_workers, share=share), target


def mixed(rows: Sequence[Row]) -> list[Row]:
    """Return rows in an order that depends on their number alone."""
    words = np.random.Philox(key=[_ORDER_KEY, 0]).random_raw(len(rows))
    return [rows[row] for row in np.argsort(words, kind="stable")]


def packed_row(row: Mapping[str, Any], place: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of an index of an image that was packed."""
    return {"id": row["id"], "label": row["label"], **place}
