"""CIFAR10-DVS (Li et al. 2017): 10,000 CIFAR-10 images, 1000 of each class, recorded with a DVS128, AEDAT 2.0."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from spikedistill.data.formats import archives
from spikedistill.data.formats.archives import Member
from spikedistill.data.formats.events import DVS128, decode_aedat2
from spikedistill.data.formats.files import explained
from spikedistill.data.meta import DatasetMeta
from spikedistill.data.prepare import inventory, splits
from spikedistill.data.prepare.frames import Recording, whole_files
from spikedistill.data.prepare.index import write_index
from spikedistill.data.prepare.recordings.write import write_frames
from spikedistill.errors import DataError

NEEDS_RAW = True
SPLIT_SAMPLES = (9000, 1000)  # to train and to test on, for estimates
PER_CLASS = 1000
SOURCES = {  # archive: (number of the file at figshare, md5)
    "airplane.zip": (7712788, "0afd5c4bf9ae06af762a77b180354fdd"),
    "automobile.zip": (7712791, "8438dfeba3bc970c94962d995b1b9bdd"),
    "bird.zip": (7712794, "a9c207c91c55b9dc2002dc21c684d785"),
    "cat.zip": (7712812, "52c63c677c2b15fa5146a8daf4d56687"),
    "deer.zip": (7712815, "b6bf21f6c04d21ba4e23fc3e36c8a4a3"),
    "dog.zip": (7712818, "f379ebdf6703d16e0a690782e62639c3"),
    "frog.zip": (7712842, "cad6ed91214b1c7388a5f6ee56d08803"),
    "horse.zip": (7712851, "e7cbbf77bec584ffbf913f00e682782a"),
    "ship.zip": (7712836, "41c7bd7d6b251be82557c6cce9a7d5c9"),
    "truck.zip": (7712839, "89f3922fd147d9aeff89e76a2b0b70a7"),
}
CLASS_NAMES = tuple(name.removesuffix(".zip") for name in SOURCES)
ADDRESS = "https://ndownloader.figshare.com/files/{}"


class Params(inventory.DownloadedParams):
    """How the events become frames, and the split. The dataset has no official one."""

    split: splits.SplitName = Field(
        "random42",
        description="random42: 9000/1000 by torch's random_split with seed 42 in SpikingJelly's order; first100: the first 100 "
        "of each class test (the TEBN paper; accuracies are typically higher); in-order: 90/10 of each class; stratified: 90/10 "
        "of each class at random.",
    )


def describe(params: Params) -> DatasetMeta:
    """Return classes and shape of the dataset."""
    return inventory.describe(params, CLASS_NAMES, (DVS128, DVS128))


@explained
def prepare(params: Params, *, raw: Path | None, out: Path, work: Path, num_workers: int) -> None:
    """Decode and integrate the recordings in `raw`: class folders or the ten archives, also below `extract` or `download`.

    If `raw` is empty, the archives are downloaded into it from figshare.

    Raises:
        DataError: naming everything that is missing, surplus or damaged.
    """
    assert raw is not None
    recordings, incomplete = _recordings(raw, params)
    decode, sensor = whole_files(decode_aedat2), (DVS128, DVS128)
    rows = write_frames(recordings, decode, params, out, sensor=sensor, num_workers=num_workers, incomplete=incomplete, work=work)
    files = [(recording.label, recording.id.rpartition("/")[2]) for recording in rows.recordings]
    order = inventory.spikingjelly_order(CLASS_NAMES, files)
    numbers = [inventory.number_of(name) for _, name in files]
    lists = splits.all_splits([label for label, _ in files], numbers, order)
    split = splits.chosen(lists, params.split)
    splits.check_twins(rows, split, strict=False)  # not a published split
    write_index(
        out,
        kind="frames",
        class_names=CLASS_NAMES,
        rows=rows,
        splits=split,
        split_lists=lists,
        recipe={"dataset": "cifar10-dvs", **params.model_dump(mode="json")},
    )


def _recordings(root: Path, params: Params) -> tuple[list[Recording], str]:
    """Return the recordings, and an error text about the dataset as a whole, if any."""
    problems = inventory.Problems()
    found = inventory.group_by_class(_members(root, params, problems), CLASS_NAMES, ".aedat", problems)
    expected = {name: [f"cifar10_{name}_{number}.aedat" for number in range(PER_CLASS)] for name in CLASS_NAMES}
    inventory.compare_files(found, expected, problems)
    inventory.compare_sizes(found, inventory.find_archives(root, SOURCES).values(), problems)
    recordings = inventory.make_recordings(found)
    return recordings, inventory.error_or_warning("CIFAR10-DVS", root, problems, strict=params.strict)


def _members(root: Path, params: Params, problems: list[str]) -> list[Member]:
    folder = inventory.find_folder(root, ["CIFAR10DVS", "cifar10-dvs"], _has_classes)
    if folder is not None:
        return inventory.files_in_classes(folder, CLASS_NAMES)
    if archives.is_empty_but_for(root, "download"):
        archives.download([(name, ADDRESS.format(number), md5) for name, (number, md5) in SOURCES.items()], root / "download")
    found = inventory.find_archives(root, SOURCES)
    if not found:
        raise DataError(
            f"{root}: no CIFAR10-DVS here: neither class folders ({', '.join(CLASS_NAMES[:2])}, …) nor archives "
            f"({', '.join(list(SOURCES)[:2])}, …), also not below extract or download. Get them from "
            "https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671, or name an empty folder to have them downloaded"
        )
    return inventory.files_in_archives({path: SOURCES[name][1] for name, path in found.items()}, problems, strict=params.strict)


def _has_classes(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in CLASS_NAMES)
