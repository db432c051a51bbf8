"""Events -> frames by the exact rules of SpikingJelly; its surprising results have to be asked for. Numpy only.

Events are counted by cell, as the file has them, and the table of counts is rearranged afterwards, which is faster than
rearranging the events. Letters: N event, T frame, H, W pixels. Channel 0 counts OFF events, channel 1 ON events.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.events import CellEvents, Events, IntArray
from spikedistill.errors import DataError

SplitBy = Literal["number", "time", "duration"]
EmptyWindows = Literal["zero", "error"]
Unsorted = Literal["error", "sort", "as_spikingjelly"]
UINT8_MAX, UINT16_MAX = 255, 65535
MAX_FRAMES = 1 << 20  # with split_by "duration"; more are a sign of a damaged timestamp
SMALL_TABLE = 1 << 16  # cells that fit into a core's own cache
Ranges = npt.NDArray[np.int64]


def integrate(
    events: Events,
    *,
    num_frames: int | None,
    split_by: SplitBy,
    height: int,
    width: int,
    duration_us: int | None = None,
    empty_windows: EmptyWindows = "zero",
    unsorted: Unsorted = "error",
) -> npt.NDArray[Any]:
    """Count events per pixel and polarity in consecutive frames.

    Args:
        events: N events in file order.
        num_frames: T; for split_by "number" and "time".
        split_by: "number": frames of N // T events, the last takes the rest. "time": half-open windows of equal length
            (last - first timestamp) // T; later events join the last. "duration": windows of `duration_us`.
        height: H; rows are 0 to H - 1.
        width: W; columns are 0 to W - 1.
        duration_us: length of a frame in microseconds, for split_by "duration".
        empty_windows: whether a time window without events gives a frame of zeros or, as in SpikingJelly, an error.
        unsorted: what to do about timestamps that run backwards, which matter to "time" and "duration": raise an error; sort
            stably; or do as SpikingJelly does, which counts some events twice or not at all.

    Returns:
        [T, 2, H, W], uint8, or uint16 if a pixel counts more than 255 events: counts never saturate.

    Raises:
        DataError: for events outside the sensor, unsorted timestamps, empty windows, or counts above 65535.
        ValueError: if the number that the rule needs is missing or below 1.
    """
    _check_coordinates(events, height, width)
    cell = (events.x.astype(np.int64) * height + events.y.astype(np.int64)) * 2 + (events.p != 0)
    recorded = CellEvents(events.t, cell, height, width)
    if split_by != "number" and unsorted != "as_spikingjelly":
        recorded, _ = in_order(recorded, unsorted)
    ranges = frame_ranges(recorded.t, split_by=split_by, num_frames=num_frames, duration_us=duration_us)
    check_windows(ranges, empty_windows if split_by != "number" else "zero")
    return count(recorded, ranges)


def _check_coordinates(events: Events, height: int, width: int) -> None:
    if len(events.t) and (events.x.max() >= width or events.y.max() >= height or events.x.min() < 0 or events.y.min() < 0):
        outside = np.flatnonzero((events.x >= width) | (events.y >= height) | (events.x < 0) | (events.y < 0))
        first = int(outside[0])
        raise DataError(
            f"{outside.size} events lie outside the {width} x {height} sensor; "
            f"the first is event {first} at x={events.x[first]}, y={events.y[first]}"
        )


def in_order(recorded: CellEvents, unsorted: Unsorted) -> tuple[CellEvents, int]:
    """Handle timestamps that run backwards.

    Args:
        recorded: the events.
        unsorted: raise an error, sort, or leave them, see `integrate`.

    Returns:
        The events, sorted where `unsorted` says so, and how many times the timestamps ran backwards.

    Raises:
        DataError: if timestamps run backwards and `unsorted` is "error".
    """
    if recorded.ordered:
        return recorded, 0
    t = recorded.t
    backwards = t[1:] < t[:-1]
    if not backwards.any():
        return dataclasses.replace(recorded, ordered=True), 0
    steps = int(np.count_nonzero(backwards))
    if unsorted == "error":
        first = int(np.argmax(backwards)) + 1
        raise DataError(
            f"timestamps run backwards {steps} times, first at event {first} ({t[first - 1]} -> {t[first]} us); "
            "get the file again, or set unsorted: sort"
        )
    if unsorted == "as_spikingjelly":
        return recorded, steps
    order = np.argsort(t, kind="stable")
    return dataclasses.replace(recorded, t=t[order], cell=recorded.cell[order], ordered=True), steps


def frame_ranges(
    t: IntArray, *, split_by: SplitBy, num_frames: int | None, duration_us: int | None = None, ordered: bool = False
) -> Ranges:
    """Return the events of each frame, as half-open ranges of indices, int64 [T, 2].

    Args:
        t: timestamps in microseconds. Where they run backwards, ranges overlap or leave gaps, as in SpikingJelly.
        split_by: see `integrate`.
        num_frames: T, for "number" and "time".
        duration_us: length of a frame, for "duration".
        ordered: whether the timestamps are known never to run backwards.

    Raises:
        DataError: for "duration" without events.
        ValueError: if the number that the rule needs is missing or below 1.
    """
    if split_by == "duration":
        return _ranges_by_duration(t, _required(duration_us, "duration_us"))
    steps = _required(num_frames, "num_frames")
    if split_by == "number":
        edges = np.arange(steps + 1, dtype=np.int64) * (t.size // steps)
        edges[-1] = t.size
        return _between(edges)
    return _ranges_by_time(t, steps, ordered=ordered)


def _required(value: int | None, name: str) -> int:
    if value is None or value < 1:
        raise ValueError(f"{name} must be at least 1 for this split; found {value}")
    return value


def _between(edges: npt.NDArray[np.int64]) -> Ranges:
    return np.stack([edges[:-1], edges[1:]], axis=1)


def _ranges_by_time(t: IntArray, num_frames: int, *, ordered: bool) -> Ranges:
    if not t.size:
        return np.zeros((num_frames, 2), dtype=np.int64)
    if not ordered and bool((t[1:] < t[:-1]).any()):
        return _ranges_by_time_unsorted(t, num_frames)
    window = (int(t[-1]) - int(t[0])) // num_frames
    starts = int(t[0]) + window * np.arange(num_frames, dtype=np.int64)
    edges = np.append(np.searchsorted(t, starts.astype(t.dtype), side="left"), t.size).astype(np.int64)
    edges[0] = 0
    return _between(edges)


def _ranges_by_time_unsorted(t: IntArray, num_frames: int) -> Ranges:
    """Reproduce SpikingJelly: from the first to the last event of each window with all between, in t's own integer type."""
    ranges = np.zeros((num_frames, 2), dtype=np.int64)
    with np.errstate(over="ignore"):
        window = (t[-1] - t[0]) // num_frames
        for frame in range(num_frames):
            start = window * frame + t[0]
            inside = np.flatnonzero((t >= start) & (t < start + window))
            if inside.size:
                ranges[frame] = inside[0], inside[-1] + 1
    if ranges[-1, 1]:
        ranges[-1, 1] = t.size
    return ranges


def _ranges_by_duration(t: IntArray, duration_us: int) -> Ranges:
    if not t.size:
        raise DataError("an empty recording has no duration to split")
    num_frames = frames_of_duration(t, duration_us)
    if num_frames > MAX_FRAMES:
        span = f"timestamps from {int(t.min())} to {int(t[-1])} us, one of them is damaged"
        raise DataError(f"{num_frames} frames of {duration_us} us, more than {MAX_FRAMES}: {span}")
    since_start = t.astype(np.int64) - int(t.min())
    starts = np.arange(num_frames + 1, dtype=np.int64)
    edges = np.searchsorted(since_start // duration_us, starts, side="left").astype(np.int64)
    edges[0], edges[-1] = 0, t.size
    return _between(edges)


def frames_of_duration(t: IntArray, duration_us: int) -> int:
    """Return the number of frames of a duration that a recording has; at least 1."""
    return max(1, -(-(int(t[-1]) - int(t.min())) // duration_us)) if t.size else 1


def check_windows(ranges: Ranges, empty_windows: EmptyWindows) -> int:
    """Return the number of frames without events.

    Raises:
        DataError: if there are any and `empty_windows` is "error".
    """
    empty = np.flatnonzero(ranges[:, 0] >= ranges[:, 1])
    if empty.size and empty_windows == "error":
        raise DataError(f"frame {int(empty[0])} has no events")
    return int(empty.size)


def count(recorded: CellEvents, ranges: Ranges) -> npt.NDArray[Any]:
    """Count the events of each range.

    Returns:
        [T, 2, H, W], uint8, or uint16 if a pixel counts more than 255 events.

    Raises:
        DataError: if a pixel counts more than 65535.
    """
    num_cells = 2 * recorded.height * recorded.width
    if len(ranges) * num_cells <= SMALL_TABLE:
        table = _histograms(recorded, ranges, num_cells)
        return _as_pictures(_fitting(table, int(table.max())), recorded)
    counts: npt.NDArray[Any] = np.empty((len(ranges), num_cells), dtype=np.uint8)
    peak = 0
    for frame, (start, stop) in enumerate(ranges.tolist()):
        histogram = np.bincount(recorded.cell[start:stop], minlength=num_cells)
        peak = max(peak, int(histogram.max()))
        counts = _fitting(counts, peak)
        counts[frame] = histogram
    return _as_pictures(counts, recorded)


def _histograms(recorded: CellEvents, ranges: Ranges, num_cells: int) -> npt.NDArray[np.intp]:
    """Count the events of all frames in one table."""
    cells = np.concatenate([recorded.cell[start:stop] for start, stop in ranges.tolist()])
    firsts = np.repeat(np.arange(len(ranges)) * num_cells, np.maximum(ranges[:, 1] - ranges[:, 0], 0))
    return np.bincount(cells + firsts, minlength=len(ranges) * num_cells).reshape(-1, num_cells)


def _fitting(counts: npt.NDArray[Any], peak: int) -> npt.NDArray[Any]:
    """Convert counts of up to `peak` to the smallest sufficient type."""
    if peak > UINT16_MAX:
        raise DataError(f"a pixel counts {peak} events in one frame, more than 65535; use more frames")
    return counts.astype(np.uint8 if peak <= UINT8_MAX else np.uint16, copy=False)


def _as_pictures(counts: npt.NDArray[Any], recorded: CellEvents) -> npt.NDArray[Any]:
    table = counts.reshape(len(counts), recorded.width, recorded.height, 2)
    if recorded.flipped:
        table = table[:, ::-1, ::-1, ::-1]
    return np.ascontiguousarray(table.transpose(0, 3, 2, 1))


def binned(frames: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """Add up neighbouring pixels: pixel (y, x) of [T, 2, H, W] goes to (y * height // H, x * width // W).

    Returns:
        [T, 2, height, width], uint8 or uint16 as `count` does.

    Raises:
        DataError: if a pixel counts more than 65535.
    """
    rows, columns = frames.shape[-2:]
    if (rows, columns) == (height, width):
        return frames
    starts = -(-np.arange(height) * rows // height), -(-np.arange(width) * columns // width)
    summed = np.add.reduceat(np.add.reduceat(frames, starts[0], axis=2, dtype=np.uint32), starts[1], axis=3)
    return _fitting(summed, int(summed.max()))
