"""Writes small recordings in the formats in which the event datasets are published."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from spikedistill.data.formats.events import Events

AEDAT2_HEADER = (
    b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n"
    b"# Data format is int32 address, int32 timestamp (8 bytes total), repeated for each event\r\n"
    b"# Timestamps tick is 1 us\r\n# created Thu Nov 26 15:11:34 CST 2015\r\n"
)
AEDAT3_HEADER = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: 2016-06-01\r\n#!END-HEADER\r\n"


def some_events(seed: int, count: int, *, height: int, width: int, start_us: int = 0, duration_us: int = 300_000) -> Events:
    """Random events around a place that depends on the seed, sorted by time."""
    random = np.random.default_rng(seed)
    t = start_us + np.sort(random.integers(0, duration_us, count))
    x = np.clip(random.normal(width * (0.3 + 0.1 * (seed % 5)), width / 8, count).astype(int), 0, width - 1)
    y = np.clip(random.normal(height * (0.3 + 0.1 * (seed % 3)), height / 8, count).astype(int), 0, height - 1)
    return Events(t, x, y, random.integers(0, 2, count))


def aedat2_bytes(events: Events, header: bytes = AEDAT2_HEADER) -> bytes:
    words = np.empty((len(events.t), 2), dtype=">u4")
    words[:, 0] = ((127 - events.x) << 8) | ((127 - events.y) << 1) | (1 - events.p)
    words[:, 1] = events.t
    return header + words.tobytes()


def aedat3_packet(events: Events, *, kind: int = 1, spare: int = 0) -> bytes:
    """One packet; `spare` empty places are part of its capacity."""
    count = len(events.t)
    overflow = int(events.t[0]) >> 31 if count else 0
    words = np.zeros((count + spare, 2), dtype="<u4")
    words[:count, 0] = (events.x << 17) | (events.y << 2) | (events.p << 1) | 1
    words[:count, 1] = np.asarray(events.t) & 0x7FFFFFFF
    return struct.pack("<HHIIIIII", kind, 1, 8, 4, overflow, count + spare, count, count) + words.tobytes()


def aedat3_bytes(events: Events, *, header: bytes = AEDAT3_HEADER, per_packet: int = 64) -> bytes:
    """Polarity packets, with a packet of special events (type 0) after the first."""
    columns = [np.asarray(column) for column in events]
    parts = [Events(*(c[at : at + per_packet] for c in columns)) for at in range(0, len(events.t), per_packet)]
    packets = [aedat3_packet(part) for part in parts]
    return header + b"".join([packets[0], aedat3_packet(Events(*(c[:1] for c in columns)), kind=0), *packets[1:]])


def atis_bytes(events: Events) -> bytes:
    t = np.asarray(events.t)
    columns = [events.x, events.y, (events.p << 7) | (t >> 16), (t >> 8) & 0xFF, t & 0xFF]
    return np.stack(columns, axis=1).astype(np.uint8).tobytes()


def write_zip(archive: Path, files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> None:
    """Write a zip archive with entries for folders, as archivers make them."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w", method) as opened:
        for folder in sorted({str(Path(name).parent) for name in files}):
            opened.writestr(f"{folder}/", b"")
        for name, content in files.items():
            opened.writestr(name, content)


def cifar10_dvs_files(class_names: Sequence[str], per_class: int, num_events: int = 400) -> dict[str, bytes]:
    """Recordings by class folder and name."""
    return {
        f"{name}/cifar10_{name}_{number}.aedat": aedat2_bytes(
            some_events(1000 * label + number, num_events, height=128, width=128)
        )
        for label, name in enumerate(class_names)
        for number in range(per_class)
    }


def n_mnist_files(part: str, per_class: int, num_events: int = 200) -> dict[str, bytes]:
    """Recordings by part, class folder and name; numbers run on over classes, as MNIST's do."""
    first = 1 if part == "Train" else 50_001
    return {
        f"{part}/{label}/{first + 10 * number + label:05d}.bin": atis_bytes(
            some_events(first + 10 * number + label, num_events, height=34, width=34)
        )
        for label in range(10)
        for number in range(per_class)
    }


def n_caltech101_files(class_names: Sequence[str], per_class: int, num_events: int = 300) -> dict[str, bytes]:
    """Recordings by class folder and name; no two classes fill the same part of the sensor."""
    return {
        f"{name}/image_{number:04d}.bin": atis_bytes(
            some_events(1000 * label + number, num_events, height=120 + label % 60, width=200 + label % 40)
        )
        for label, name in enumerate(class_names)
        for number in range(1, per_class + 1)
    }


def gesture_files(trials: Mapping[str, Sequence[str]], num_events: int = 1200) -> dict[str, bytes]:
    """Recordings with a sample of each of the 11 classes and two of class 8, their label files, and the lists of trials."""
    files = {}
    for part, names in trials.items():
        files[f"trials_to_{part}.txt"] = "".join(f"{name}.aedat\n" for name in names).encode()
        for number, name in enumerate(names):
            seed = len(files) * 100 + number
            events = some_events(seed, num_events, height=128, width=128, start_us=80_000_000, duration_us=1_300_000)
            files[f"{name}.aedat"] = aedat3_bytes(events)
            classes = [1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 10, 11]
            rows = [f"{c},{80_000_000 + 100_000 * i},{80_000_000 + 100_000 * i + 95_000}" for i, c in enumerate(classes)]
            files[f"{name}_labels.csv"] = "\n".join(["class,startTime_usec,endTime_usec", *rows, ""]).encode()
    return files
