"""Recordings -> `frames.npy`: decoded and integrated in parallel processes; one run reports all bad files.

Each process holds one recording and one row at a time, and writes its rows in place; `blocks.fill` resumes what was interrupted.
The folder becomes an artifact in one rename when everything has succeeded (`store.artifacts`).
"""

from __future__ import annotations

import bisect
import dataclasses
import logging
import math
import shutil
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from spikedistill.components import ComponentParams
from spikedistill.data.formats.archives import Member
from spikedistill.data.formats.arrays import HEADER_BYTES, create_array
from spikedistill.data.formats.events import EMPTY, CellEvents, IntArray, Truncated
from spikedistill.data.formats.files import link, state_of
from spikedistill.data.formats.isal_zlib import crc32
from spikedistill.data.prepare.blocks.fill import digest_of, fill, in_blocks
from spikedistill.data.prepare.blocks.target import ArrayTarget, Writer
from spikedistill.data.prepare.integrate import (
    MAX_FRAMES,
    EmptyWindows,
    SplitBy,
    Unsorted,
    binned,
    check_windows,
    count,
    frame_ranges,
    frames_of_duration,
    in_order,
)
from spikedistill.data.prepare.workers import shared_zeros
from spikedistill.errors import DataError

log = logging.getLogger(__name__)

FRAMES = "frames.npy"
FILES_PER_BLOCK = 64  # at most
SHORT, LONG = 0.5, 2.0  # times the median duration of a class

Window = tuple[int, int]


class FrameParams(ComponentParams):
    """How recordings become frames."""

    num_frames: int = Field(10, ge=1, description="Frames T per recording.")
    split_by: SplitBy = Field(
        "number", description="Frames with equal numbers of events, of equal time, or of a fixed duration (`duration_us`)."
    )
    duration_us: int | None = Field(
        None,
        ge=1,
        description="Length of a frame in microseconds, with split_by: duration. Recordings with fewer than num_frames such "
        "frames are padded with frames of zeros.",
    )
    height: int | None = Field(
        None, ge=1, description="Rows of a frame; events of neighbouring pixels are added up. Default: those of the sensor."
    )
    width: int | None = Field(None, ge=1, description="Columns of a frame; likewise.")
    empty_windows: EmptyWindows = Field("zero", description="A time window without events gives a frame of zeros, or an error.")
    unsorted: Unsorted = Field(
        "error",
        description="Timestamps that run backwards are an error, or get sorted (sort), or are used as they are "
        "(as_spikingjelly: with split_by: time, some events count twice and others not at all).",
    )
    truncated: Truncated = Field(
        "error", description="A file that ends inside an event is an error, or the incomplete event is dropped (drop)."
    )
    empty_recordings: Literal["error", "skip"] = Field(
        "error", description="A recording without events is an error, or is left out (skip)."
    )
    overlong: Literal["error", "cut"] = Field(
        "error",
        description="With split_by: duration, a recording of more than num_frames frames is an error, or loses the rest (cut).",
    )

    @model_validator(mode="after")
    def _duration_fits(self) -> Self:
        if (self.split_by == "duration") != (self.duration_us is not None):
            raise ValueError("duration_us must be set with split_by: duration, and only there")
        return self

    def picture(self, sensor: tuple[int, int]) -> tuple[int, int]:
        """Return rows and columns of a frame, given those of the sensor."""
        return self.height or sensor[0], self.width or sensor[1]


@dataclass(frozen=True, slots=True)
class Recording:
    """One event recording: its place and its class.

    Attributes:
        file: file to decode.
        id: name in the index.
        label: class number.
        window_us: start (inclusive) and end (exclusive) of the part of the file, in microseconds; None: the whole file.
    """

    file: Member
    id: str
    label: int
    window_us: Window | None = None


class Sample(NamedTuple):
    """A decoded recording, with size and CRC-32 of the bytes that it was decoded from."""

    recorded: CellEvents
    num_bytes: int
    crc32: int


Decoder = Callable[[Member, Sequence[Window | None], Truncated], Iterator[tuple[int, Sample]]]
"""Decodes a file and yields (number of the window, its sample) for each window."""


def whole_files(decode: Callable[..., CellEvents], **options: Any) -> Decoder:
    """Return a decoder of files that contain one recording each.

    Args:
        decode: decoder of the bytes of a file, see `formats.events`.
        options: further arguments of `decode`.
    """

    def decode_whole(file: Member, windows: Sequence[Window | None], truncated: Truncated) -> Iterator[tuple[int, Sample]]:
        content = file.read()
        yield 0, Sample(decode(content, str(file), truncated=truncated, **options), len(content), crc32(content))

    decode_whole.__wrapped__ = decode  # type: ignore[attr-defined]  # for messages
    return decode_whole


FACTS = np.dtype(
    [
        ("bytes", "u8"),
        ("crc32", "u4"),
        ("events", "u4"),
        ("duration_us", "i8"),
        ("frames", "u4"),
        ("max", "u2"),
        ("empty_frames", "u4"),
        ("dropped", "u4"),
        ("backward_steps", "u4"),
        ("row_crc32", "u4"),
    ]
)


class Rows(Sequence[dict[str, Any]]):
    """The rows of an index, built on access because a dataset may have very many."""

    def __init__(self, recordings: Sequence[Recording], facts: npt.NDArray[Any]) -> None:
        self.recordings = recordings
        self.facts = facts
        self.short, self.long = _unusual(recordings, facts)

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, row: Any) -> Any:
        recording = self.recordings[row]
        facts = dict(zip(FACTS.names or (), self.facts[row].tolist(), strict=True))
        facts |= {key: f"{facts[key]:08x}" for key in ("crc32", "row_crc32")}
        window = {} if recording.window_us is None else {"window_us": list(recording.window_us)}
        folder, _, name = recording.file.path.rpartition("/")
        source = f"{name}/{recording.file.name}" if recording.file.name else f"{folder.rpartition('/')[2]}/{name}"
        return {
            "id": recording.id,
            "label": recording.label,
            "source": source,
            **window,
            **facts,
            **({"short": True} if self.short[row] else {}),
            **({"long": True} if self.long[row] else {}),
        }


def _unusual(recordings: Sequence[Recording], facts: npt.NDArray[Any]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Mark recordings much shorter than the median of their class, perhaps truncated between events, and those much longer."""
    labels = np.array([recording.label for recording in recordings])
    usual = np.zeros(len(recordings))
    for label in np.unique(labels):
        rows = labels == label
        usual[rows] = np.median(facts["duration_us"][rows])
    return facts["duration_us"] < SHORT * usual, facts["duration_us"] > LONG * usual


@dataclass(frozen=True)
class _Task:
    """How recordings become rows."""

    decode: Decoder
    params: FrameParams
    sensor: tuple[int, int]
    dtype: np.dtype[Any]

    @property
    def picture(self) -> tuple[int, int]:
        return self.params.picture(self.sensor)

    @property
    def row_shape(self) -> tuple[int, int, int, int]:
        return (self.params.num_frames, 2, *self.picture)

    @property
    def row_bytes(self) -> int:
        return math.prod(self.row_shape) * self.dtype.itemsize


class _Problem(NamedTuple):
    """Why a recording cannot be used; with the traceback where its decoder failed in a way that it should not."""

    text: str
    traceback: str = ""


class _DecoderError(Exception):
    """What a decoder raised in another process: its traceback as text, because not every exception can be sent."""


_Outcome = tuple[int, tuple[int, ...] | _Problem]  # row, and its facts or its problem


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
    task = _Task(decode, params, sensor, _first_dtype(work))
    while True:
        place = _place_of(task, out, work)
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
            _place_of(task, out, work)  # before what shows that these bits were not enough is gone
            shutil.rmtree(place)
    kept = np.flatnonzero(facts["events"] > 0).tolist()
    if not kept:
        (out / FRAMES).unlink(missing_ok=True)
        raise DataError(f"all {len(recordings)} recordings are empty, such as {_place(recordings[0])}; get them again")
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


def _place_of(task: _Task, out: Path, work: Path | None) -> Path:
    """Return the folder that an array is written in; it is created."""
    if work is None:
        return out
    folder = _folder_of(work, task.dtype)
    folder.mkdir(exist_ok=True)
    return folder


def _folder_of(work: Path, dtype: np.dtype[Any]) -> Path:
    return work / f"frames-{dtype.name}"


def _refusal(incomplete: str, problems: list[str], count: int, found: list[_Problem]) -> DataError:
    """Return the error that names everything that is wrong; its cause is the first failure of a decoder, if one failed."""
    if problems:
        lines = "\n  ".join(dict.fromkeys(problems))  # a damaged file has the same problem for each of its recordings
        problems = [f"{len(problems)} of {count} recordings cannot be used:\n  {lines}"]
    error = DataError("\n".join([incomplete, *problems] if incomplete else problems))
    error.__cause__ = next((_DecoderError(problem.traceback) for problem in found if problem.traceback), None)
    if error.__cause__ is not None:
        log.info("the first failure of a decoder:\n%s", error.__cause__)
    return error


def _integrate_all(
    recordings: Sequence[Recording],
    task: _Task,
    facts: npt.NDArray[np.void],
    path: Path,
    journals: Path | None,
    num_workers: int,
) -> list[_Problem]:
    """Write all rows and their facts; return the problems."""
    target = ArrayTarget(path, task.dtype, (len(recordings), *task.row_shape), "frames")
    return fill(_Integration(recordings, task, facts), target, facts, folder=journals, num_workers=num_workers)


class _Integration:
    """The integration of recordings, in blocks of a few files each."""

    what = "recordings integrated"

    def __init__(self, recordings: Sequence[Recording], task: _Task, facts: npt.NDArray[Any]) -> None:
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

    def convert(self, rows: range, writer: Writer, count: Callable[[], None]) -> list[_Problem]:
        """Integrate the recordings of some files."""
        problems: dict[int, _Problem] = {}
        first = bisect.bisect_left(self._files, rows.start)
        while (start := self._files[first]) < rows.stop:
            of_file = range(start, self._files[first + 1])
            for row, outcome in _convert(self._recordings[of_file.start : of_file.stop], of_file, self._task, writer):
                if isinstance(outcome, _Problem):
                    problems[row] = outcome
                else:
                    self._facts[row] = outcome
            for _ in of_file:
                count()
            first += 1
        return [problems[row] for row in sorted(problems)]


def _convert(recordings: Sequence[Recording], rows: range, task: _Task, writer: Writer) -> Iterator[_Outcome]:
    """Decode one file, write the rows of its recordings, and yield the outcome of each."""
    file, missing = recordings[0].file, set(rows)
    decoded = _decoded(file, [recording.window_us for recording in recordings], task)
    problem: _Problem | None = None
    for number, sample in decoded:
        if isinstance(sample, _Problem):
            problem = sample
            break
        row, recording = rows[number], recordings[number]
        missing.discard(row)
        try:
            frames, facts = _integrate_one(sample, task)
        except DataError as err:
            yield row, _Problem(f"{_place(recording)}: {err}")
            continue
        except Exception as err:
            yield row, _unexpected(_place(recording), task, err)
            continue
        if frames is None:
            writer.write(row, np.zeros(task.row_shape, task.dtype))  # what was there of an earlier run goes
        elif frames.dtype == task.dtype:
            writer.write(row, frames, facts[-1])
        else:  # all rows will be written again as uint16
            writer.write(row, frames.astype(task.dtype))
        yield row, facts
    if problem is not None:  # even if all its recordings were decoded before: the file is damaged
        yield from ((row, problem) for row in rows)
    elif missing:
        text = f"{file}: {_name_of(task.decode)} returned no sample of {len(missing)} of its {len(rows)} recordings"
        yield from ((row, _Problem(text)) for row in sorted(missing))


def _decoded(file: Member, windows: Sequence[Window | None], task: _Task) -> Iterator[tuple[int, Sample | _Problem]]:
    """Yield the samples of a file and, if it cannot be decoded, the problem at the end."""
    try:
        for number, sample in task.decode(file, windows, task.params.truncated):
            if not 0 <= number < len(windows):
                raise IndexError(f"sample {number} of {len(windows)}")
            yield number, sample
    except DataError as err:
        yield -1, _Problem(str(err))
    except Exception as err:
        yield -1, _unexpected(str(file), task, err)


def _unexpected(place: str, task: _Task, err: Exception) -> _Problem:
    advice = "damaged, or a mistake in that decoder, which should raise DataError"
    return _Problem(f"{place}: {_name_of(task.decode)} failed with {err!r}: {advice}", "".join(traceback.format_exception(err)))


def _name_of(decode: Any) -> str:
    """Return module and name of a decoder, of the inner one if it was wrapped."""
    while inner := getattr(decode, "func", None) or getattr(decode, "__wrapped__", None):
        decode = inner
    return f"{getattr(decode, '__module__', '')}.{getattr(decode, '__qualname__', repr(decode))}"


def _place(recording: Recording) -> str:
    return str(recording.file) if recording.window_us is None else f"{recording.file}, {recording.id}"


def _integrate_one(sample: Sample, task: _Task) -> tuple[npt.NDArray[Any] | None, tuple[int, ...]]:
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


def _same_under_two_labels(recordings: Sequence[Recording], facts: npt.NDArray[Any]) -> list[str]:
    rows = np.flatnonzero(facts["events"])
    sums = (facts["crc32"].astype(np.uint64) << 32 | facts["row_crc32"])[rows]
    _, first, group = np.unique(sums, return_index=True, return_inverse=True)
    twins = zip(rows.tolist(), rows[first][group].tolist(), strict=True)
    return [
        f"{_place(recordings[row])}: the same recording as {_place(recordings[other])}, under another label"
        for row, other in twins
        if recordings[row].label != recordings[other].label
    ]


def _keep_rows(path: Path, target: Path, task: _Task, rows: Sequence[int]) -> None:
    """Write an array file with some of the rows of another one, in whose place it may come."""
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
