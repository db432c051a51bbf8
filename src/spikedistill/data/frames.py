"""Recordings -> `frames.npy`: decoded and integrated in parallel processes, every bad file reported in one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikedistill.data.events import Events
from spikedistill.data.integrate import SplitBy, integrate
from spikedistill.errors import DataError


@dataclass(frozen=True)
class Recording:
    """One event recording: where it is and what it shows."""

    path: Path
    id: str
    label: int


@dataclass(frozen=True)
class FrameRecipe:
    """How recordings become frames; see `integrate`."""

    num_frames: int
    split_by: SplitBy
    height: int
    width: int


def write_frames(
    recordings: Sequence[Recording],
    read: Callable[[Path], Events],
    recipe: FrameRecipe,
    out: Path,
    *,
    num_workers: int,
) -> list[dict[str, Any]]:
    """Write `out/frames.npy` [N, T, 2, H, W] and return the rows of its index.

    Args:
        recordings: the N recordings, in the order of the rows.
        read: decoder of one file; a function that other processes can import.
        recipe: how events become frames.
        out: folder to write to.
        num_workers: processes to use.

    Raises:
        DataError: naming every file that could not be used.
    """
    if not recordings:
        raise DataError("no recordings to integrate")
    convert = partial(_convert, read=read, recipe=recipe)
    frames = np.zeros((len(recordings), recipe.num_frames, 2, recipe.height, recipe.width), dtype=np.uint8)
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    with ProcessPoolExecutor(num_workers) as pool:
        for recording, result in zip(recordings, pool.map(convert, recordings, chunksize=32), strict=True):
            if isinstance(result, str):
                problems.append(result)
                continue
            counts, facts = result
            if counts.dtype == np.uint16 and frames.dtype == np.uint8:
                frames = frames.astype(np.uint16)
            frames[len(rows)] = counts
            rows.append({"id": recording.id, "label": recording.label, **facts})
    if problems:
        raise DataError(f"{len(problems)} of {len(recordings)} recordings cannot be used:\n  " + "\n  ".join(problems))
    np.save(out / "frames.npy", frames)
    return rows


def _convert(
    recording: Recording, *, read: Callable[[Path], Events], recipe: FrameRecipe
) -> tuple[npt.NDArray[Any], dict[str, int]] | str:
    try:
        events = read(recording.path)
    except DataError as err:
        return str(err)
    try:
        counts = integrate(
            events, num_frames=recipe.num_frames, split_by=recipe.split_by, height=recipe.height, width=recipe.width
        )
    except DataError as err:
        return f"{recording.path}: {err}"
    duration_us = int(events.t[-1]) - int(events.t[0]) if len(events.t) else 0
    empty = int((counts.reshape(recipe.num_frames, -1).max(axis=1) == 0).sum())
    return counts, {
        "events": len(events.t),
        "duration_us": duration_us,
        "empty_frames": empty,
        "max": int(counts.max()),
    }
