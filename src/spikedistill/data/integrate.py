"""Events -> frames: the exact rules of SpikingJelly, without its surprises. Numpy only.

Letters: N event, T frame, H, W pixels. Channel 0 counts OFF events, channel 1 ON events.
"""

from __future__ import annotations

import itertools
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from spikedistill.data.events import Events
from spikedistill.errors import DataError

SplitBy = Literal["number", "time", "duration"]


def integrate(
    events: Events,
    *,
    num_frames: int | None,
    split_by: SplitBy,
    height: int,
    width: int,
    duration_us: int | None = None,
    empty_windows: Literal["zero", "error"] = "zero",
    unsorted: Literal["error", "sort"] = "error",
) -> npt.NDArray[Any]:
    """Count events per pixel and polarity in consecutive frames.

    Args:
        events: N events in file order.
        num_frames: T; for split_by "number" and "time".
        split_by: "number": frames of N // T events, the last takes the rest. "time": windows of equal length
            (last - first timestamp) // T, half-open; what follows joins the last. "duration": windows of `duration_us`.
        height: H; events must lie below it.
        width: W; events must lie left of it.
        duration_us: length of a frame in microseconds, for split_by "duration".
        empty_windows: a window of time without events gives a frame of zeros, or an error as SpikingJelly's.
        unsorted: timestamps that run backwards (possible for "time" and "duration"): an error, or sort them, stably.

    Returns:
        [T, 2, H, W], uint8, or uint16 if a pixel counts more than 255 events: counts never saturate.

    Raises:
        DataError: for events outside of the sensor, unsorted timestamps, empty windows, or counts above 65535.
        ValueError: if the arguments do not fit together.
    """
    _check_coordinates(events, height, width)
    if split_by == "number":
        edges = _edges_by_number(len(events.t), _required(num_frames, "num_frames"))
    else:
        events = _sorted(events, unsorted)
        t = events.t.astype(np.int64)
        if split_by == "time":
            edges = _edges_by_time(t, _required(num_frames, "num_frames"))
        else:
            edges = _edges_by_duration(t, _required(duration_us, "duration_us"))
        if empty_windows == "error" and (np.diff(edges) == 0).any():
            raise DataError(f"frame {int(np.flatnonzero(np.diff(edges) == 0)[0])} has no events")
    return _count(events, edges, height, width)


def _required(value: int | None, name: str) -> int:
    if value is None or value < 1:
        raise ValueError(f"{name} must be at least 1 for this split; found {value}")
    return value


def _check_coordinates(events: Events, height: int, width: int) -> None:
    if len(events.t) and (events.x.max() >= width or events.y.max() >= height or events.x.min() < 0 or events.y.min() < 0):
        outside = np.flatnonzero((events.x >= width) | (events.y >= height) | (events.x < 0) | (events.y < 0))
        first = int(outside[0])
        raise DataError(
            f"{outside.size} events lie outside of the {width} x {height} sensor; "
            f"the first is event {first} at x={events.x[first]}, y={events.y[first]}"
        )


def _sorted(events: Events, unsorted: str) -> Events:
    t = events.t.astype(np.int64)
    backwards = np.flatnonzero(np.diff(t) < 0)
    if not backwards.size:
        return events
    if unsorted == "error":
        first = int(backwards[0]) + 1
        raise DataError(
            f"timestamps run backwards {backwards.size} times, first at event {first} "
            f"({t[first - 1]} -> {t[first]} us); get the file again, or set unsorted: sort"
        )
    order = np.argsort(t, kind="stable")
    return Events(*(column[order] for column in events))


def _edges_by_number(num_events: int, num_frames: int) -> npt.NDArray[np.int64]:
    edges = np.arange(num_frames + 1, dtype=np.int64) * (num_events // num_frames)
    edges[-1] = num_events
    return edges


def _edges_by_time(t: npt.NDArray[np.int64], num_frames: int) -> npt.NDArray[np.int64]:
    if not t.size:
        return np.zeros(num_frames + 1, dtype=np.int64)
    window = (t[-1] - t[0]) // num_frames
    edges = np.searchsorted(t, t[0] + window * np.arange(num_frames + 1), side="left").astype(np.int64)
    edges[-1] = t.size
    return edges


def _edges_by_duration(t: npt.NDArray[np.int64], duration_us: int) -> npt.NDArray[np.int64]:
    if not t.size:
        raise DataError("an empty recording has no duration to split")
    since_start = t - t[0]
    num_frames = max(1, -(-int(since_start[-1]) // duration_us))
    edges = np.searchsorted(since_start, duration_us * np.arange(num_frames + 1), side="left").astype(np.int64)
    edges[-1] = t.size
    return edges


def _count(events: Events, edges: npt.NDArray[np.int64], height: int, width: int) -> npt.NDArray[Any]:
    cell = (events.p != 0) * np.int64(height * width) + events.y.astype(np.int64) * width + events.x.astype(np.int64)
    num_frames, num_cells = len(edges) - 1, 2 * height * width
    counts = np.stack([np.bincount(cell[a:b], minlength=num_cells) for a, b in itertools.pairwise(edges)])
    peak = int(counts.max(initial=0))
    if peak > np.iinfo(np.uint16).max:
        raise DataError(f"a pixel counts {peak} events in one frame, more than 65535; use more frames")
    dtype = np.uint8 if peak <= np.iinfo(np.uint8).max else np.uint16
    return counts.astype(dtype).reshape(num_frames, 2, height, width)
