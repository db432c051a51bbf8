"""The integration of recordings, in blocks of a few files each; one run reports all bad files.

Each process holds one recording and one row at a time, and writes its rows in place.
"""

from __future__ import annotations

import bisect
import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.archives import Member
from spikedistill.data.formats.events import EMPTY, IntArray
from spikedistill.data.formats.files import state_of
from spikedistill.data.formats.isal_zlib import crc32
from spikedistill.data.prepare.blocks.fill import in_blocks
from spikedistill.data.prepare.blocks.target import Writer
from spikedistill.data.prepare.blocks.work import digest_of
from spikedistill.data.prepare.frames import Decoder, FrameParams, Recording, Sample, Window
from spikedistill.data.prepare.integrate import (
    MAX_FRAMES,
    binned,
    check_windows,
    count,
    frame_ranges,
    frames_of_duration,
    in_order,
)
from spikedistill.errors import DataError

FILES_PER_BLOCK = 64  # at most


@dataclass(frozen=True)
class Task:
    """How recordings become rows."""

    decode: Decoder
    params: FrameParams
    sensor: tuple[int, int]
    dtype: np.dtype[Any]

    @property
    def picture(self) -> tuple[int, int]:
        """Rows and columns of a frame."""
        return self.params.picture(self.sensor)

    @property
    def row_shape(self) -> tuple[int, int, int, int]:
        """Shape of the frames of one recording, [T, 2, H, W]."""
        return (self.params.num_frames, 2, *self.picture)

    @property
    def row_bytes(self) -> int:
        """Bytes of the frames of one recording."""
        return math.prod(self.row_shape) * self.dtype.itemsize


class Problem(NamedTuple):
    """Why a recording cannot be used; with the traceback if its decoder failed in an unexpected way."""

    text: str
    traceback: str = ""


class DecoderError(Exception):
    """What a decoder raised in another process: its traceback as text, because not every exception can be sent."""


_Outcome = tuple[int, tuple[int, ...] | Problem]  # row, and its facts or its problem


class Integration:
    """The integration of recordings, in blocks of a few files each."""

    what = "recordings integrated"

    def __init__(self, recordings: Sequence[Recording], task: Task, facts: npt.NDArray[Any]) -> None:
        self._recordings, self._task, self._facts = recordings, task, facts
        firsts = [row for row, each in enumerate(recordings) if not row or each.file != recordings[row - 1].file]
        self._files = [*firsts, len(recordings)]  # the recordings of a file follow each other
        self.bounds = [self._files[file] for file in in_blocks(len(firsts), FILES_PER_BLOCK)]
        params = task.params.model_dump(mode="json")
        self.recipe = {"params": params, "sensor": task.sensor, "dtype": task.dtype.name, "decoder": _name_of(task.decode)}

    def sources(self, rows: range) -> int:
        """Return a digest of names, sizes and times of the files of some rows, and of the parts of them that are used."""
        of_block = self._recordings[rows.start : rows.stop]
        states = {path: state_of(path) for path in {recording.file.path for recording in of_block}}
        return digest_of(f"{states[each.file.path]} {each.file!r} {each.window_us}" for each in of_block)

    def convert(self, rows: range, writer: Writer, count: Callable[[], None]) -> list[Problem]:
        """Integrate the recordings of some files."""
        problems: dict[int, Problem] = {}
        first = bisect.bisect_left(self._files, rows.start)
        while (start := self._files[first]) < rows.stop:
            of_file = range(start, self._files[first + 1])
            for row, outcome in _convert(self._recordings[of_file.start : of_file.stop], of_file, self._task, writer):
                if isinstance(outcome, Problem):
                    problems[row] = outcome
                else:
                    self._facts[row] = outcome
            for _ in of_file:
                count()
            first += 1
        return [problems[row] for row in sorted(problems)]


def _convert(recordings: Sequence[Recording], rows: range, task: Task, writer: Writer) -> Iterator[_Outcome]:
    """Decode one file, write the rows of its recordings, and yield the outcome of each."""
    file, missing = recordings[0].file, set(rows)
    decoded = _decoded(file, [recording.window_us for recording in recordings], task)
    problem: Problem | None = None
    for number, sample in decoded:
        if isinstance(sample, Problem):
            problem = sample
            break
        row, recording = rows[number], recordings[number]
        missing.discard(row)
        try:
            frames, facts = _integrate_one(sample, task)
        except DataError as err:
            yield row, Problem(f"{place_of(recording)}: {err}")
            continue
        except Exception as err:
            yield row, _unexpected(place_of(recording), task, err)
            continue
        if frames is None:
            writer.write(row, np.zeros(task.row_shape, task.dtype))  # overwrites what an earlier run left
        elif frames.dtype == task.dtype:
            writer.write(row, frames, facts[-1])
        else:  # all rows will be written again as uint16
            writer.write(row, frames.astype(task.dtype))
        yield row, facts
    if problem is not None:  # even if all its recordings were decoded before: the file is damaged
        yield from ((row, problem) for row in rows)
    elif missing:
        text = f"{file}: {_name_of(task.decode)} returned no sample of {len(missing)} of its {len(rows)} recordings"
        yield from ((row, Problem(text)) for row in sorted(missing))


def _decoded(file: Member, windows: Sequence[Window | None], task: Task) -> Iterator[tuple[int, Sample | Problem]]:
    """Yield the samples of a file and, if it cannot be decoded, the problem at the end."""
    try:
        for number, sample in task.decode(file, windows, task.params.truncated):
            if not 0 <= number < len(windows):
                raise IndexError(f"sample {number} of {len(windows)}")
            yield number, sample
    except DataError as err:
        yield -1, Problem(str(err))
    except Exception as err:
        yield -1, _unexpected(str(file), task, err)


def _unexpected(place: str, task: Task, err: Exception) -> Problem:
    advice = "damaged, or a mistake in that decoder, which should raise DataError"
    return Problem(f"{place}: {_name_of(task.decode)} failed with {err!r}: {advice}", "".join(traceback.format_exception(err)))


def _name_of(decode: Any) -> str:
    """Return module and name of a decoder, of the inner one if it was wrapped."""
    while inner := getattr(decode, "func", None) or getattr(decode, "__wrapped__", None):
        decode = inner
    return f"{getattr(decode, '__module__', '')}.{getattr(decode, '__qualname__', repr(decode))}"


def place_of(recording: Recording) -> str:
    """Return the place of a recording, for messages."""
    return str(recording.file) if recording.window_us is None else f"{recording.file}, {recording.id}"


def _integrate_one(sample: Sample, task: Task) -> tuple[npt.NDArray[Any] | None, tuple[int, ...]]:
    params, recorded = task.params, sample.recorded
    if not recorded.t.size:
        if params.empty_recordings == "error":
            raise DataError(f"{EMPTY}; get the file again, or set empty_recordings: skip")
        return None, (sample.num_bytes, sample.crc32, 0, 0, 0, 0, 0, recorded.dropped, 0, 0)
    recorded, backward_steps = in_order(recorded, params.unsorted)
    num_ranges = _num_ranges(recorded.t, params)
    ranges = frame_ranges(
        recorded.t,
        split_by=params.split_by,
        num_frames=params.num_frames,
        duration_us=params.duration_us,
        ordered=recorded.ordered,
    )
    ranges = ranges[: params.num_frames]
    empty = check_windows(ranges, params.empty_windows if params.split_by != "number" else "zero")
    frames = binned(_cropped(count(recorded, ranges), *task.sensor), *task.picture)
    if len(frames) < params.num_frames:
        frames = np.concatenate([frames, np.zeros((params.num_frames - len(frames), *frames.shape[1:]), frames.dtype)])
    if frames.dtype.itemsize < task.dtype.itemsize:
        frames = frames.astype(task.dtype)
    duration_us = int(recorded.t[-1]) - int(recorded.t[0])
    return frames, (
        sample.num_bytes,
        sample.crc32,
        recorded.t.size,
        duration_us,
        num_ranges,
        int(frames.max()),
        empty,
        recorded.dropped,
        backward_steps,
        crc32(frames.data),
    )


def _num_ranges(t: IntArray, params: FrameParams) -> int:
    """Return the number of frames that a recording has, before memory is taken for them."""
    if params.split_by != "duration" or params.duration_us is None:
        return params.num_frames
    found = frames_of_duration(t, params.duration_us)
    most = params.num_frames if params.overlong == "error" else MAX_FRAMES
    if found > most:
        advice = "raise num_frames, or set overlong: cut" if params.overlong == "error" else "a timestamp is damaged"
        span = f"timestamps from {int(t.min())} to {int(t[-1])} us"
        raise DataError(f"{found} frames of {params.duration_us} us; {advice} ({span})")
    return found


def _cropped(frames: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """Crop frames to the sensor where the file format can address more pixels."""
    if frames.shape[-2:] == (height, width):
        return frames
    outside = int(frames[..., height:, :].sum()) + int(frames[..., :height, width:].sum())
    if outside:
        raise DataError(f"{outside} events lie outside the {width} x {height} sensor; damaged or of another sensor")
    return np.ascontiguousarray(frames[..., :height, :width])
