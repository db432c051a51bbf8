"""DVS128 Gesture (Amir et al. 2017): 11 gestures by 29 people, three kinds of light, 1464 samples in 122 AEDAT 3.1 files."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from spikedistill.data.formats import archives
from spikedistill.data.formats.archives import Member
from spikedistill.data.formats.events import DVS128, Aedat3Chunk, CellEvents, Truncated, aedat3_chunks, dvs128_cells
from spikedistill.data.formats.files import explained, is_there, read_text, reason
from spikedistill.data.formats.isal_zlib import crc32
from spikedistill.data.meta import DatasetMeta
from spikedistill.data.prepare import inventory, splits
from spikedistill.data.prepare.frames import Recording, Sample, Window
from spikedistill.data.prepare.index import write_index
from spikedistill.data.prepare.recordings.write import write_frames
from spikedistill.errors import DataError

NEEDS_RAW = True
SPLIT_SAMPLES = (1176, 288)  # to train and to test on, for estimates
CLASS_NAMES = (
    "hand_clapping",
    "right_hand_wave",
    "left_hand_wave",
    "right_arm_clockwise",
    "right_arm_counter_clockwise",
    "left_arm_clockwise",
    "left_arm_counter_clockwise",
    "arm_roll",
    "air_drums",
    "air_guitar",
    "other_gestures",
)
COUNTS = {"train": 1176, "test": 288}
ARCHIVE, MD5 = "DvsGesture.tar.gz", "8a5c71fb11e24e5ca5b11866ca6c00a1"
_NUMBER = re.compile(r"\s*-?[0-9]{1,18}\s*")
ADDRESS = "https://ibm.ent.box.com/s/3hiq58ww1pbbjrinh367ykfdf60xsfm8/folder/50167556794"


class Params(inventory.DownloadedParams):
    """How the events become frames. The lists trials_to_train.txt and trials_to_test.txt are the splits."""


def describe(params: Params) -> DatasetMeta:
    """Return classes and shape of the dataset."""
    return inventory.describe(params, CLASS_NAMES, (DVS128, DVS128))


@explained
def prepare(params: Params, *, raw: Path | None, out: Path, work: Path, num_workers: int) -> None:
    """Cut, decode and integrate the recordings in `raw`: folder DvsGesture or its archive, also below `extract` or `download`.

    The archive is unpacked into `work`.

    Raises:
        DataError: naming everything that is missing or damaged.
    """
    assert raw is not None
    parts, incomplete = _recordings(_folder(raw, work, params), params)
    recordings = [recording for part in parts.values() for recording in part]
    decode = functools.partial(cut_samples, in_order=params.unsorted == "error")
    sensor = DVS128, DVS128
    rows = write_frames(recordings, decode, params, out, sensor=sensor, num_workers=num_workers, incomplete=incomplete, work=work)
    row_of = {recording.id: row for row, recording in enumerate(rows.recordings)}
    lists = {name: [row_of[each.id] for each in part if each.id in row_of] for name, part in parts.items()}
    splits.check_twins(rows, lists, strict=params.strict)
    recipe = {"dataset": "dvs128-gesture", **params.model_dump(mode="json")}
    write_index(out, kind="frames", class_names=CLASS_NAMES, rows=rows, splits=lists, recipe=recipe)


def _folder(root: Path, work: Path, params: Params) -> Path:
    def is_it(folder: Path) -> bool:
        return all((folder / f"trials_to_{part}.txt").is_file() for part in COUNTS)

    if (folder := inventory.find_folder(root, ["DvsGesture"], is_it)) is not None:
        return folder
    found = inventory.find_archives(root, [ARCHIVE])
    if not found:
        raise DataError(
            f"{root}: no DVS128 Gesture here: neither the folder DvsGesture with its trials_to_train.txt nor {ARCHIVE}, also "
            f"not below extract or download. It cannot be downloaded by a program: get it from {ADDRESS}"
        )
    if params.strict:
        archives.check_md5({found[ARCHIVE]: MD5})
    archives.unpack_tar(found[ARCHIVE], work / "gesture")
    if (folder := inventory.find_folder(work / "gesture", ["DvsGesture"], is_it)) is not None:
        return folder
    raise DataError(f"{found[ARCHIVE]}: holds no trials_to_train.txt and trials_to_test.txt; get it again")


def _recordings(folder: Path, params: Params) -> tuple[dict[str, list[Recording]], str]:
    """Return the samples of each split, and an error text about the dataset as a whole, if any."""
    parts: dict[str, list[Recording]] = {}
    problems = inventory.Problems()
    bad_rows: list[str] = []
    listed = {part: read_text(folder / f"trials_to_{part}.txt").split() for part in COUNTS}
    for part, expected in COUNTS.items():
        parts[part] = []
        for trial in listed[part]:
            labels = folder / f"{Path(trial).stem}_labels.csv"
            missing = [file.name for file in (folder / trial, labels) if not is_there(file)]
            problems += [f"missing: {name[:100]}, named by trials_to_{part}.txt" for name in missing]
            if not missing:
                parts[part] += read_labels(labels, Member(str(folder / trial)), bad_rows)
        if len(parts[part]) != expected:
            problems.append(f"{len(parts[part])} samples to {part}, expected {expected}")
    problems.never_excused += _listed_twice(folder, listed)
    incomplete = [inventory.error_or_warning("DVS128 Gesture", folder, problems, strict=params.strict)]
    if bad_rows:
        incomplete.append(f"{len(bad_rows)} rows of label files cannot be used:\n  " + "\n  ".join(bad_rows))
    return parts, "\n".join(filter(None, incomplete))


def _listed_twice(folder: Path, listed: dict[str, list[str]]) -> list[str]:
    """Return lines about trials that are in both lists, under the same or another name, and those that are twice in one."""
    there = {part: [str(folder / name) for name in names if is_there(folder / name)] for part, names in listed.items()}
    lines = inventory.in_two_parts(there)
    for part, names in listed.items():
        stems = [Path(name).stem for name in names]
        again = sorted({stem for stem in stems if stems.count(stem) > 1})
        lines += inventory.summarize(f"trials are more than once in trials_to_{part}.txt", again)
    return lines


def read_labels(path: Path, recording: Member, problems: list[str]) -> list[Recording]:
    """Return the samples of a recording that its label file lists: rows of class (1 to 11), start and end in microseconds.

    Args:
        path: the CSV file; a first line without a number is a heading.
        recording: the recording.
        problems: gets a line for each row that cannot be used, or one if the file cannot be read.
    """
    samples: list[Recording] = []
    of_class = [0] * len(CLASS_NAMES)
    trial = Path(recording.path).stem
    try:
        lines = read_text(path).splitlines()
    except DataError as err:
        problems.append(str(err))
        return []
    for number, line in enumerate(lines, start=1):
        fields = line.split(",")
        is_number = [_NUMBER.fullmatch(field) is not None for field in fields]
        if not line.strip() or (number == 1 and not any(is_number)):
            continue
        if len(fields) != 3 or not all(is_number):
            problems.append(f"{path}, line {number}: expected class,startTime_usec,endTime_usec; found {line[:200]!r}")
            continue
        label, start, stop = map(int, fields)
        if not 1 <= label <= len(CLASS_NAMES):
            problems.append(f"{path}, line {number}: class {label} is not one of 1 to {len(CLASS_NAMES)}")
        elif stop <= start:
            problems.append(f"{path}, line {number}: the sample ends at {stop} us, before it starts at {start} us")
        else:
            name = f"{CLASS_NAMES[label - 1]}/{trial}_{of_class[label - 1]}"
            samples.append(Recording(recording, name, label - 1, (start, stop)))
            of_class[label - 1] += 1
    return samples


class _Cut:
    """A sample that is being collected from the chunks of its recording."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.t: list[np.ndarray] = []
        self.cell: list[np.ndarray] = []

    def take(self, chunk: Aedat3Chunk, name: str, *, in_order: bool) -> None:
        start, stop = self.window
        if in_order:
            first, last = np.searchsorted(chunk.t, [start, stop], side="left")
            inside: slice | np.ndarray = slice(first, last)
        else:
            inside = (chunk.t >= start) & (chunk.t < stop)
        part = Aedat3Chunk(chunk.t[inside], chunk.data[inside])
        if part.t.size:
            self.t.append(part.t)
            self.cell.append(dvs128_cells(part, name))

    def sample(self, *, ordered: bool) -> Sample:
        t = np.concatenate(self.t) if self.t else np.empty(0, np.int64)
        cell = np.concatenate(self.cell) if self.cell else np.empty(0, np.uint16)
        return Sample(CellEvents(t, cell, DVS128, DVS128, ordered=ordered), 8 * t.size, crc32(cell.data, crc32(t.data)))


def cut_samples(
    file: Member, windows: Sequence[Window | None], truncated: Truncated, *, in_order: bool
) -> Iterator[tuple[int, Sample]]:
    """Cut the samples out of one recording, with a few megabytes of it and the unfinished samples in memory.

    Args:
        file: the recording.
        windows: start and end of each sample in microseconds; they may overlap.
        truncated: whether a truncated last packet is an error, or its whole events are used.
        in_order: whether timestamps that run backwards are an error; if not, all samples are yielded at the end.

    Yields:
        Number of the window, and its sample.

    Raises:
        DataError: if the recording is damaged.
    """
    cuts = {number: _Cut(window) for number, window in enumerate(windows) if window is not None}
    now: int | None = None
    try:
        with Path(file.path).open("rb") as stream:
            for chunk in aedat3_chunks(stream, file.path, truncated=truncated):
                if in_order:
                    _check_order(chunk, now, file.path)
                now = int(chunk.t[-1])
                for cut in cuts.values():
                    cut.take(chunk, file.path, in_order=in_order)
                over = [number for number, cut in cuts.items() if in_order and cut.window[1] <= now]
                for number in over:
                    yield number, cuts.pop(number).sample(ordered=in_order)
    except OSError as err:
        raise DataError(f"{file}: {reason(err)}") from err
    for number, cut in cuts.items():
        yield number, cut.sample(ordered=in_order)


def _check_order(chunk: Aedat3Chunk, before: int | None, name: str) -> None:
    t = chunk.t
    backwards = t[1:] < t[:-1]
    if (before is not None and t[0] < before) or backwards.any():
        at = int(np.argmax(backwards)) + 1 if backwards.any() else 0
        earlier = int(t[at - 1]) if at else before
        raise DataError(f"{name}: timestamps run backwards ({earlier} -> {t[at]} us); get the file again, or set unsorted: sort")
