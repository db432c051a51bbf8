"""Recordings -> `frames.npy`, in parallel processes; what an interrupted run did is not done again (`blocks.fill`).

The folder becomes an artifact in one rename when everything has succeeded (`store.artifacts`).
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.arrays import HEADER_BYTES, create_array
from spikedistill.data.formats.files import link
from spikedistill.data.prepare.blocks.fill import fill
from spikedistill.data.prepare.blocks.target import ArrayTarget
from spikedistill.data.prepare.frames import FACTS, Decoder, FrameParams, Recording, Rows
from spikedistill.data.prepare.recordings.integration import DecoderError, Integration, Problem, Task, place_of
from spikedistill.data.prepare.workers import shared_zeros
from spikedistill.errors import DataError

log = logging.getLogger(__name__)

FRAMES = "frames.npy"


def write_frames(
    recordings: Sequence[Recording],
    decode: Decoder,
    params: FrameParams,
    out: Path,
    *,
    sensor: tuple[int, int],
    num_workers: int,
    incomplete: str = "",
    work: Path | None = None,
) -> Rows:
    """Write `out/frames.npy` [N, T, 2, H, W] and return the rows of its index.

    Counts are uint8, or uint16 for the whole array if any count exceeds 255.

    Args:
        recordings: in the order of the rows.
        decode: decoder of a file.
        params: how events become frames.
        out: folder to write to.
        sensor: rows and columns of the sensor; events beyond them are an error.
        num_workers: number of processes.
        incomplete: error text about the dataset as a whole, to be raised together with the problems of its recordings; empty if
            there is none.
        work: folder that survives an interruption, on the file system of `out`: the next run goes on from what is there. None:
            every run begins from the start.

    Returns:
        N rows: those of `recordings`, without the empty ones if these are skipped.

    Raises:
        DataError: naming every recording that cannot be used; or if there are no recordings; or with `incomplete`.
    """
    if not recordings:
        raise DataError(incomplete or "no recordings to integrate")
    facts = shared_zeros(len(recordings), FACTS)
    task = Task(decode, params, sensor, _first_dtype(work))
    while True:
        place = _folder_for(task, out, work)
        found = _integrate_all(recordings, task, facts, place / FRAMES, work and place, num_workers)
        problems = [problem.text for problem in found] + _same_under_two_labels(recordings, facts)
        if incomplete or problems:
            (out / FRAMES).unlink(missing_ok=True)
            raise _refusal(incomplete, problems, len(recordings), found)
        most = int(facts["max"].max())
        wanted = np.dtype(np.uint8 if most <= np.iinfo(np.uint8).max else np.uint16)
        if wanted == task.dtype:
            break
        log.info("a pixel counts %d events in one frame: writing %d bits per count", most, 8 * wanted.itemsize)
        task = dataclasses.replace(task, dtype=wanted)
        if work is not None:
            _folder_for(task, out, work)  # first: if interrupted here, the next run still sees that it needs more bits
            shutil.rmtree(place)
    kept = np.flatnonzero(facts["events"] > 0).tolist()
    if not kept:
        (out / FRAMES).unlink(missing_ok=True)
        raise DataError(f"all {len(recordings)} recordings are empty, such as {place_of(recordings[0])}; get them again")
    if len(kept) < len(recordings):
        log.warning("left out: %d recordings without events", len(recordings) - len(kept))
        _keep_rows(place / FRAMES, out / FRAMES, task, kept)
    elif work is not None:
        link(place / FRAMES, out / FRAMES)
    rows = Rows([recordings[row] for row in kept] if len(kept) < len(recordings) else recordings, facts[kept])
    _warn_of_unusual(rows)
    return rows


def _first_dtype(work: Path | None) -> np.dtype[Any]:
    """Return the type to begin with: 16 bits if an interrupted run found that these are needed."""
    wide = np.dtype(np.uint16)
    return wide if work is not None and _folder_of(work, wide).is_dir() else np.dtype(np.uint8)


def _folder_for(task: Task, out: Path, work: Path | None) -> Path:
    """Return the folder that an array is written in; it is created."""
    if work is None:
        return out
    folder = _folder_of(work, task.dtype)
    folder.mkdir(exist_ok=True)
    return folder


def _folder_of(work: Path, dtype: np.dtype[Any]) -> Path:
    return work / f"frames-{dtype.name}"


def _refusal(incomplete: str, problems: list[str], count: int, found: list[Problem]) -> DataError:
    """Return the error that names everything that is wrong; its cause is the first failure of a decoder, if one failed."""
    if problems:
        lines = "\n  ".join(dict.fromkeys(problems))  # a damaged file has the same problem for each of its recordings
        problems = [f"{len(problems)} of {count} recordings cannot be used:\n  {lines}"]
    error = DataError("\n".join([incomplete, *problems] if incomplete else problems))
    error.__cause__ = next((DecoderError(problem.traceback) for problem in found if problem.traceback), None)
    if error.__cause__ is not None:
        log.info("the first failure of a decoder:\n%s", error.__cause__)
    return error


def _integrate_all(
    recordings: Sequence[Recording],
    task: Task,
    facts: npt.NDArray[np.void],
    path: Path,
    journals: Path | None,
    num_workers: int,
) -> list[Problem]:
    """Write all rows and their facts; return the problems."""
    target = ArrayTarget(path, task.dtype, (len(recordings), *task.row_shape), "frames")
    return fill(Integration(recordings, task, facts), target, facts, folder=journals, num_workers=num_workers)


def _same_under_two_labels(recordings: Sequence[Recording], facts: npt.NDArray[Any]) -> list[str]:
    rows = np.flatnonzero(facts["events"])
    sums = (facts["crc32"].astype(np.uint64) << 32 | facts["row_crc32"])[rows]
    _, first, group = np.unique(sums, return_index=True, return_inverse=True)
    twins = zip(rows.tolist(), rows[first][group].tolist(), strict=True)
    return [
        f"{place_of(recordings[row])}: the same recording as {place_of(recordings[other])}, under another label"
        for row, other in twins
        if recordings[row].label != recordings[other].label
    ]


def _keep_rows(path: Path, target: Path, task: Task, rows: Sequence[int]) -> None:
    """Write an array file with some of the rows of another one, which it may replace."""
    kept = target.with_name("kept.npy")
    create_array(kept, task.dtype, (len(rows), *task.row_shape), "frames")
    with path.open("rb") as source, kept.open("r+b") as stream:
        stream.seek(HEADER_BYTES)
        for row in rows:
            source.seek(HEADER_BYTES + row * task.row_bytes)
            stream.write(source.read(task.row_bytes))
    kept.replace(target)


def _warn_of_unusual(rows: Rows) -> None:
    for mark, marked, what in (("short", rows.short, "less than half of"), ("long", rows.long, "more than twice")):
        found = np.flatnonzero(marked)
        if found.size:
            log.warning(
                "%d recordings last %s what is usual in their class (marked as %s in index.json): %s%s",
                found.size,
                what,
                mark,
                ", ".join(rows.recordings[row].id for row in found[:10].tolist()),
                " …" if found.size > 10 else "",
            )
