"""N-MNIST (Orchard et al. 2015): the 60,000 + 10,000 MNIST digits, recorded with a moving ATIS, 34 x 34, .bin."""

from __future__ import annotations

from pathlib import Path

from spikedistill.data.formats import archives
from spikedistill.data.formats.archives import Member
from spikedistill.data.formats.events import decode_atis
from spikedistill.data.formats.files import explained
from spikedistill.data.meta import DatasetMeta
from spikedistill.data.prepare import inventory, splits
from spikedistill.data.prepare.frames import Recording, whole_files
from spikedistill.data.prepare.index import write_index
from spikedistill.data.prepare.recordings.write import write_frames
from spikedistill.errors import DataError

NEEDS_RAW = True
SPLIT_SAMPLES = (60000, 10000)  # to train and to test on, for estimates
SENSOR = 34
CLASS_NAMES = tuple(str(digit) for digit in range(10))
COUNTS = {
    "Train": (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    "Test": (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
}
SOURCES = {"Train.zip": "20959b8e626244a1b502305a9e6e2031", "Test.zip": "69ca8762b2fe404d9b9bad1103e97832"}
ADDRESS = "https://www.garrickorchard.com/datasets/n-mnist"


class Params(inventory.DownloadedParams):
    """How the events become frames. The folders Train and Test are the splits."""


def describe(params: Params) -> DatasetMeta:
    """Return classes and shape of the dataset."""
    return inventory.describe(params, CLASS_NAMES, (SENSOR, SENSOR))


@explained
def prepare(params: Params, *, raw: Path | None, out: Path, work: Path, num_workers: int) -> None:
    """Decode and integrate the recordings in `raw`: folders Train and Test or their archives, also below `extract` or `download`.

    Raises:
        DataError: naming everything that is missing, surplus or damaged.
    """
    assert raw is not None
    recordings, incomplete = _recordings(raw, params)
    decode, sensor = whole_files(decode_atis, height=SENSOR, width=SENSOR), (SENSOR, SENSOR)
    rows = write_frames(recordings, decode, params, out, sensor=sensor, num_workers=num_workers, incomplete=incomplete, work=work)
    parts = [recording.id.partition("/")[0] for recording in rows.recordings]
    lists = {name.lower(): [row for row, part in enumerate(parts) if part == name] for name in COUNTS}
    splits.check_twins(rows, lists, strict=params.strict)
    recipe = {"dataset": "n-mnist", **params.model_dump(mode="json")}
    write_index(out, kind="frames", class_names=CLASS_NAMES, rows=rows, splits=lists, recipe=recipe)


def _recordings(root: Path, params: Params) -> tuple[list[Recording], str]:
    """Return the recordings, and an error text about the dataset as a whole, if any."""
    problems = inventory.Problems()
    recordings = []
    parts = _members(root, params, problems)
    problems.never_excused += inventory.in_two_parts({part: {each.path for each in files} for part, files in parts.items()})
    for part, members in parts.items():
        found = inventory.group_by_class(members, CLASS_NAMES, ".bin", problems)
        for label, (name, files) in enumerate(found.items()):
            if len(files) != COUNTS[part][label]:
                problems.append(f"{part}/{name}: {len(files)} recordings, expected {COUNTS[part][label]}")
        recordings += inventory.make_recordings(found, f"{part}/")
        inventory.compare_sizes(found, inventory.find_archives(root, [f"{part}.zip"]).values(), problems)
    return recordings, inventory.error_or_warning("N-MNIST", root, problems, strict=params.strict)


def _members(root: Path, params: Params, problems: list[str]) -> dict[str, list[Member]]:
    """Return the files of each part."""
    folder = inventory.find_folder(root, ["N-MNIST", "NMNIST"], lambda it: all((it / part).is_dir() for part in COUNTS))
    if folder is not None:
        return {part: archives.files_below(folder / part) for part in COUNTS}
    found = inventory.find_archives(root, SOURCES)
    if len(found) < len(SOURCES):
        raise DataError(
            f"{root}: no N-MNIST here: neither the folders Train and Test nor both archives Train.zip and Test.zip, also not "
            f"below extract or download. It cannot be downloaded by a program: get it from {ADDRESS}"
        )
    return {
        part: inventory.files_in_archives({found[name]: SOURCES[name]}, problems, strict=params.strict)
        for part in COUNTS
        if (name := f"{part}.zip")
    }
