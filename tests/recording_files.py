"""Writes the same events in every format that a user's own recordings may have.

Each writer follows the description of its format event by event, in plain Python; h5py writes HDF5, and the library of the
camera's maker AEDAT 4. None shares code with the decoders.
"""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from spikedistill.data.formats.events import Events
from tests.event_files import aedat2_bytes, aedat3_bytes, atis_bytes

SIDE = 128


def bursts(seed: int, count: int, *, side: int = SIDE, start_us: int = 1_000, duration_us: int = 300_000) -> Events:
    """Events of which many have one time, row and polarity, with growing columns, as sensors that send vectors record them."""
    random = np.random.default_rng(seed)
    rows: list[tuple[int, int, int, int]] = []
    times = np.sort(random.integers(0, duration_us, count))
    while len(rows) < count:
        t, y, p = start_us + int(times[len(rows)]), int(random.integers(side)), int(random.integers(2))
        row = np.flatnonzero(random.random(side) < random.choice([0.02, 0.3]))
        rows += [(t, int(x), y, p) for x in row[: count - len(rows)]]
    t, x, y, p = (np.array(column) for column in zip(*sorted(rows, key=lambda row: row[0]), strict=True))
    return Events(t, x, y, p)


def each(events: Events) -> list[tuple[int, int, int, int]]:
    """The events as plain numbers: t, x, y, p."""
    return [tuple(map(int, event)) for event in zip(*events, strict=True)]  # type: ignore[misc]


def npz_columns(events: Events) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, t=events.t, x=events.x, y=events.y, p=events.p, height=np.int64(SIDE), width=np.int64(SIDE))
    return stream.getvalue()


def structured(events: Events) -> np.ndarray:
    fields = [("timestamp", "<u8"), ("x", "<u2"), ("y", "<u2"), ("polarity", "?")]
    return np.array([tuple(event) for event in each(events)], dtype=fields)


def npz_structured(events: Events) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, events=structured(events))
    return stream.getvalue()


def npy_structured(events: Events) -> bytes:
    stream = io.BytesIO()
    np.save(stream, structured(events))
    return stream.getvalue()


def npy_table(events: Events) -> bytes:
    """Columns x, y, t, p without names; polarities -1 and 1."""
    stream = io.BytesIO()
    np.save(stream, np.array([(x, y, t, 2 * p - 1) for t, x, y, p in each(events)], dtype=np.float64))
    return stream.getvalue()


def csv_heading(events: Events) -> bytes:
    lines = ["x,y,polarity,timestamp_us", *(f"{x},{y},{p},{t}" for t, x, y, p in each(events))]
    return ("\r\n".join(lines) + "\r\n").encode()


def text_seconds(events: Events) -> bytes:
    """As the Robotics and Perception Group writes it: the size of the sensor, then lines of t in seconds, x, y, p."""
    return "\n".join([f"{SIDE} {SIDE}", *(f"{t / 1e6:.6f} {x} {y} {p}" for t, x, y, p in each(events))]).encode()


def _h5(write: Callable) -> bytes:
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        write(file)
    return stream.getvalue()


def h5_columns(events: Events) -> bytes:
    """As DSEC has it: events/t, x, y, p, compressed."""

    def write(file) -> None:
        file.attrs["height"], file.attrs["width"] = SIDE, SIDE
        group = file.create_group("events")
        for name, column, dtype in zip("txyp", events, ("i8", "u2", "u2", "u1"), strict=True):
            group.create_dataset(name, data=np.asarray(column, dtype), compression="gzip")
        group["t"].attrs["unit"] = "us"

    return _h5(write)


def h5_compound(events: Events) -> bytes:
    """As Prophesee's tools write it: CD/events with fields."""

    def write(file) -> None:
        file.attrs["geometry"] = f"{SIDE}x{SIDE}"
        fields = [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")]
        file["CD/events"] = np.array([(x, y, p, t) for t, x, y, p in each(events)], dtype=fields)

    return _h5(write)


def h5_table(events: Events) -> bytes:
    """A table [N, 4] of t in seconds, x, y, p in a place of its own."""
    return _h5(lambda file: file.update({"davis/left/events": np.array([(t / 1e6, x, y, p) for t, x, y, p in each(events)])}))


def aedat4(events: Events) -> bytes:
    import dv_processing as dv

    config = dv.io.MonoCameraWriter.Config("test")
    config.addEventStream((SIDE, SIDE))
    store = dv.EventStore()
    for t, x, y, p in each(events):
        store.push_back(t, x, y, bool(p))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.aedat4"
        writer = dv.io.MonoCameraWriter(str(path), config)
        writer.writeEvents(store)
        del writer
        return path.read_bytes()


def raw_header(version: int) -> bytes:
    lines = ["camera_integrator_name Prophesee", f"evt {version}.0", f"format EVT{version};height={SIDE};width={SIDE}", "end"]
    return "".join(f"% {line}\n" for line in lines).encode()


def evt2(events: Events) -> bytes:
    words, high = [0xA << 28], None  # an external trigger before the first time
    for t, x, y, p in each(events):
        if t >> 6 != high:
            high = t >> 6
            words += [0x8 << 28 | high & 0x0FFFFFFF]
        words.append(p << 28 | (t & 0x3F) << 22 | x << 11 | y)
    return raw_header(2) + struct.pack(f"<{len(words)}I", *words)


def evt3(events: Events) -> bytes:
    """Single events and vectors of 12, 12 and 8 columns; time and row are sent when they change."""
    words: list[int] = []
    todo, time, row = each(events), None, None
    while todo:
        t, x, y, p = todo[0]
        if time is None or t >> 12 != time >> 12:
            words.append(0x8000 | t >> 12 & 0xFFF)
        if t != time:
            words.append(0x6000 | t & 0xFFF)
        if y != row:
            words.append(y)
        time, row = t, y
        group = [x]
        for other in todo[1:]:
            if (other[0], other[2], other[3]) != (t, y, p) or not group[-1] < other[1] < x + 32:
                break
            group.append(other[1])
        todo = todo[len(group) :]
        words += [0x2000 | p << 11 | x] if len(group) == 1 else _vectors(group, p)
    return raw_header(3) + struct.pack(f"<{len(words)}H", *words)


def _vectors(columns: list[int], p: int) -> list[int]:
    mask = sum(1 << x - columns[0] for x in columns)
    return [0x3000 | p << 11 | columns[0], 0x4000 | mask & 0xFFF, 0x4000 | mask >> 12 & 0xFFF, 0x5000 | mask >> 24]


def dat(events: Events) -> bytes:
    header = f"% Data file containing CD events.\n% Version 2\n% Height {SIDE}\n% Width {SIDE}\n".encode() + b"\x0c\x08"
    return header + b"".join(struct.pack("<II", t & 0xFFFFFFFF, p << 28 | y << 14 | x) for t, x, y, p in each(events))


WRITERS: dict[str, tuple[str, Callable[[Events], bytes], dict[str, object]]] = {
    "aedat 2.0": ("aedat", aedat2_bytes, {}),
    "aedat 3.1": ("aedat", aedat3_bytes, {}),
    "aedat 4": ("aedat4", aedat4, {}),
    "bin": ("bin", atis_bytes, {"sensor": {"height": SIDE, "width": SIDE}}),
    "csv with a heading": ("csv", csv_heading, {"sensor": {"height": SIDE, "width": SIDE}}),
    "text in seconds": ("txt", text_seconds, {"columns": "txyp"}),
    "dat": ("dat", dat, {}),
    "evt2": ("raw", evt2, {}),
    "evt3": ("raw", evt3, {}),
    "h5 columns": ("h5", h5_columns, {}),
    "h5 compound": ("hdf5", h5_compound, {"time_unit": "us"}),
    "h5 table": (
        "h5",
        h5_table,
        {"columns": "txyp", "inside": "davis/left/events", "sensor": {"height": SIDE, "width": SIDE}, "time_unit": "s"},
    ),
    "npy structured": ("npy", npy_structured, {"sensor": {"height": SIDE, "width": SIDE}}),
    "npy table": ("npy", npy_table, {"columns": "xytp", "sensor": {"height": SIDE, "width": SIDE}, "time_unit": "us"}),
    "npz columns": ("npz", npz_columns, {}),
    "npz structured": ("npz", npz_structured, {"sensor": {"height": SIDE, "width": SIDE}}),
}
"""Name -> ending of the file, writer, and what the file does not say and has to be stated."""


def folder_files(
    name: str, *, per_class: int = 2, num_events: int = 600, classes: tuple[str, ...] = ("left", "right")
) -> dict[str, bytes]:
    """Recordings in train and test folders of a few classes, in one format."""
    ending, write, _ = WRITERS[name]
    return {
        f"{part}/{name_}/r{number}.{ending}": write(bursts(100 * label + 10 * number + (part == "test"), num_events))
        for part in ("train", "test")
        for label, name_ in enumerate(classes)
        for number in range(per_class)
    }
