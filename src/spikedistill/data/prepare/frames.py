"""Recordings and their frames: how the one becomes the other, and what an index says of each. Numpy only."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from spikedistill.components import ComponentParams
from spikedistill.data.formats.archives import Member
from spikedistill.data.formats.events import CellEvents, Truncated
from spikedistill.data.formats.isal_zlib import crc32
from spikedistill.data.prepare.integrate import (
    EmptyWindows,
    SplitBy,
    Unsorted,
)

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
