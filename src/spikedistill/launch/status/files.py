"""What the files of a stage in progress tell: its lease, its starts, its metrics.

In a shared store, a colleague may have written them: nothing but plain files of a sensible size is read, numbers must be finite,
and only the printable part of a text is used.
"""

from __future__ import annotations

import datetime
import json
import os
import stat
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spikedistill.data.prepare.blocks.progress import PROGRESS
from spikedistill.launch.status.snapshot import Progress
from spikedistill.plan.stages import Spec
from spikedistill.store.lease import Holder, heartbeat_age_s, lease_path, read_holder
from spikedistill.store.provenance import STARTS
from spikedistill.train.tracking import METRICS, STEP

TAIL_BYTES = 64 * 1024
MOST = 1e15  # larger numbers are nothing that was measured
LONGEST_EPOCH_S = 1e8
LONGEST_TEXT = 200
RECENT_EPOCHS = 5


@dataclass(frozen=True)
class Work:
    """The work in progress on an artifact.

    Attributes:
        holder: the process that makes it; None if none does.
        silent_s: seconds since its last sign of life; 0 without a holder.
        starts: how often it was started.
        started: when, the last time; seconds since the epoch.
        progress: of a training or a preparation that has begun.
        progress_at: when that was noted, in seconds since the epoch.
    """

    holder: Holder | None = None
    silent_s: float = 0.0
    starts: int = 0
    started: float | None = None
    progress: Progress | None = None
    progress_at: float | None = None


class WorkReader:
    """Reads the work folders of a store."""

    def __init__(self) -> None:
        """Read nothing yet."""
        self._skew_s: float | None = None

    def read(self, work: Path, epochs: int, batch_size: int) -> Work:
        """Read the work folder of a stage that trains for `epochs` epochs, 0 if it does not train, with this batch size."""
        lease = lease_path(work)
        holder = read_holder(lease) if _size(lease) is not None else None
        starts = _json_lines(work / STARTS)
        progress, progress_at = _progress(work, epochs, batch_size) if epochs else _preparation(work / PROGRESS)
        return Work(
            holder=holder,
            silent_s=self._silent_s(lease) if holder else 0.0,
            starts=len(starts),
            started=_moment(starts[-1].get("started")) if starts else None,
            progress=progress,
            progress_at=progress_at,
        )

    def _silent_s(self, lease: Path) -> float:
        """Return the seconds since the last heartbeat; the clock of the file system is compared with this machine's once."""
        try:
            beat = lease.stat().st_mtime
            if self._skew_s is None:
                silent_s = heartbeat_age_s(lease)
                if silent_s == 0.0:  # or unknown
                    return max(0.0, time.time() - beat)
                self._skew_s = beat + silent_s - time.time()
        except OSError:
            return 0.0
        return max(0.0, time.time() + self._skew_s - beat)


def schedule_of(spec: Spec) -> tuple[int, int]:
    """Return the epochs and the batch size of a stage; zeros if it does not train."""
    train = getattr(spec, "train", None)
    return (0, 0) if train is None else (int(train.epochs), int(train.batch_size))


def printable(text: object) -> str:
    """Return a text as it may go to a terminal: one line, without control characters, not too long."""
    line = "".join(sign if sign.isprintable() else "?" for sign in str(text)[: LONGEST_TEXT + 1])
    return line if len(line) <= LONGEST_TEXT else line[: LONGEST_TEXT - 1] + "…"


def _size(path: Path) -> int | None:
    """Return the size of a plain file; None if there is none, or something else, on which a reader might wait for ever."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_size if stat.S_ISREG(about.st_mode) else None


def _json_lines(path: Path, last: int = 0) -> list[dict[str, Any]]:
    """Return the objects in the last whole lines of a file: `last` lines, or for 0 all of its tail; skip lines without one."""
    size = _size(path)
    if not size:
        return []
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            stream.seek(max(0, size - TAIL_BYTES))
            tail = stream.read(TAIL_BYTES)
    except OSError:
        return []
    if size > TAIL_BYTES:
        tail = tail[tail.find(b"\n") + 1 :]
    found = []
    for line in tail[: tail.rfind(b"\n") + 1].splitlines()[-last:]:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found


def _progress(work: Path, epochs: int, batch_size: int) -> tuple[Progress | None, float | None]:
    """Return how far a training is, and when that was so; None before the first steps."""
    at_epoch, epoch_at = _last_epoch(work / METRICS, epochs)
    within, step_at = _within_epoch(work / STEP, epochs, batch_size)
    if within is None or (at_epoch is not None and within.epoch < at_epoch.epoch):
        return at_epoch, epoch_at
    if at_epoch is None:
        return within, step_at
    return replace(within, epoch_s=at_epoch.epoch_s or within.epoch_s, validation=at_epoch.validation), step_at


def _last_epoch(metrics: Path, epochs: int) -> tuple[Progress | None, float | None]:
    lines = [line for line in _json_lines(metrics, RECENT_EPOCHS) if isinstance(line.get("epoch"), int)]
    if not lines:
        return None, None
    last = max(lines, key=lambda line: int(line["epoch"]))
    times = [seconds for line in lines if (seconds := _number(line, "time/epoch(s)")) is not None]
    progress = Progress(
        epoch=max(0, min(last["epoch"] + 1, epochs)),
        epochs=epochs,
        epoch_s=_epoch_s(statistics.fmean(times), 1.0) if times else None,
        loss=_number(last, "train/loss"),
        accuracy=_number(last, "train/accuracy(%)"),
        validation=_number(last, "validation/accuracy(%)"),
        samples_per_s=_number(last, "time/throughput(samples/s)"),
    )
    return progress, _modified(metrics)


def _preparation(file: Path) -> tuple[Progress | None, float | None]:
    """Return how far a preparation of data is, as if it were one epoch, and when that was so."""
    note = _read_note(file)
    match note:
        case {"done": int(done), "total": int(total), "unit": str(unit)} if 0 <= done <= total < MOST and total:
            speed = _number(note, "rate(1/s)")
            epoch_s = _epoch_s(total, speed)
            progress = Progress(0, 1, done / total, epoch_s, samples_per_s=speed, unit=printable(unit))
            return progress, _modified(file)
    return None, None


def _read_note(file: Path) -> Any:
    """Return the content of a small JSON file; None if there is none that can be read."""
    size = _size(file)
    if size is None or size > TAIL_BYTES:
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _within_epoch(file: Path, epochs: int, batch_size: int) -> tuple[Progress | None, float | None]:
    note = _read_note(file)
    match note:
        case {"epoch": int(epoch), "step": int(step), "steps": int(steps)} if (
            0 <= epoch < epochs and 0 <= step <= steps < MOST and steps
        ):
            speed = _number(note, "throughput(samples/s)")
            epoch_s = _epoch_s(steps * batch_size, speed)
            loss, accuracy = _number(note, "loss"), _number(note, "accuracy(%)")
            return Progress(epoch, epochs, step / steps, epoch_s, loss, accuracy, None, speed), _modified(file)
    return None, None


def _modified(file: Path) -> float | None:
    try:
        return file.stat().st_mtime
    except OSError:
        return None


def _number(entry: Mapping[str, Any], key: str) -> float | None:
    return number_in(entry.get(key))


def number_in(value: object) -> float | None:
    """Return a number of a file that a colleague may have written; None for what is none, or larger than any measurement."""
    return float(value) if isinstance(value, int | float) and abs(value) < MOST else None


def _epoch_s(amount: float, speed: float | None) -> float | None:
    """Return how long an epoch takes; None if that is not known, or longer than anybody would wait."""
    seconds = amount / speed if speed else None
    return seconds if seconds is not None and 0 <= seconds < LONGEST_EPOCH_S else None


def _moment(text: object) -> float | None:
    """Convert a time in ISO format to seconds since the epoch; None if it is none."""
    try:
        return datetime.datetime.fromisoformat(str(text)).timestamp()
    except (ValueError, OverflowError):
        return None
