"""ImageNet (ILSVRC 2012): 1,281,167 + 50,000 images of 1000 classes. With `strict: false`, any folder of class folders."""

from __future__ import annotations

import functools
import io
import logging
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, NamedTuple, Self, cast

from pydantic import Field, model_validator

from spikedistill.components import ComponentParams
from spikedistill.data.formats import archives
from spikedistill.data.formats.files import check_free_space, explained, state_of
from spikedistill.data.formats.imagenet_labels import validation_classes, validation_number
from spikedistill.data.formats.imagenet_synsets import SYNSETS
from spikedistill.data.formats.images import ImageFiles
from spikedistill.data.loading.inputs import STATISTICS
from spikedistill.data.meta import DatasetMeta
from spikedistill.data.prepare import inventory, splits
from spikedistill.data.prepare.images.tasks import Shrink, packing
from spikedistill.data.prepare.images.write import Sums, mixed, packed_row, verify, write_array, write_entry_points, write_packed
from spikedistill.data.prepare.index import write_index
from spikedistill.errors import DataError
from spikedistill.store.atomic import write_text

log = logging.getLogger(__name__)

NEEDS_RAW = True
SPLIT_SAMPLES = (1281167, 50000)  # to train and to test on, for estimates
PUBLISHED_BYTES = 154_642_401_280  # of the two archives
SHRUNK_BYTES = 0.45  # size of a JPEG of quality 90, over the square of its shorter side
POINTS_BYTES = 4000  # size of the entry points of an image of usual size
INDEX_BYTES = 130  # size of an image's entry in the index
MD5 = {
    "ILSVRC2012_img_train.tar": "1d675b47d978889d74fa0da5fadfb00e",
    "ILSVRC2012_img_val.tar": "29b22e2961454d5413ddabcf34fc5622",
}
TRAIN_PER_CLASS = range(732, 1301)
VAL_PER_CLASS = range(50, 51)
_SPLITS = {"train": "train", "val": "test"}  # published part -> split
_BELOW = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "ILSVRC2012", "ILSVRC2012_img", "imagenet", "ImageNet", "ILSVRC")
_SUFFIXES = (".jpeg", ".jpg", ".png")


class Params(ComponentParams):
    """The published training and validation sets are the splits train and test."""

    storage: Literal["files", "array", "packed"] = Field(
        "files",
        description="files: decode the user's files during training; array: keep the middle square of each image, resized, in "
        "one array of uint8 (262 GB at 256 pixels): several times faster, but training crops come from that square; packed: "
        "copy the images into a few hundred large files, in mixed order, for file systems on which opening a million is slow.",
    )
    shrink: Shrink | None = Field(
        None,
        description="With storage: packed, images as smaller JPEG files, which are decoded faster: {side: 288, quality: 90}.",
    )
    random_access: bool = Field(
        False,
        description="With storage: files or packed, note where the parts of each JPEG begin, so that a crop is decoded without "
        "the rest: the same pixels, faster, for 3 to 8 % more bytes. Preparing needs Numba: pip install 'spikedistill[images]'.",
    )
    side: int = Field(
        256, ge=1, description="Shorter side in pixels that images are resized to where they are not cropped at random."
    )
    verify: bool = Field(
        True, description="With storage: files, decode every image once, so that all damaged ones are named before training."
    )
    strict: bool = Field(
        True,
        description="Require every image, and archives with their published md5; false: use the classes and images that are "
        "there.",
    )

    @model_validator(mode="after")
    def _only_packed(self) -> Self:
        if self.shrink is not None and self.storage != "packed":
            raise ValueError("shrink needs storage: packed")
        if self.random_access and self.storage == "array":
            raise ValueError("random_access is for images that stay JPEG: storage: files or packed")
        return self


class Picture(NamedTuple):
    """One image: its class, its row of the index, and its place, a number that only links to the same file have in common."""

    class_name: str
    row: dict[str, Any]
    place: int


def describe(params: Params) -> DatasetMeta:
    """Return classes and shape of the complete dataset."""
    in_files = params.storage != "array"
    return DatasetMeta("images", SYNSETS, channels=3, height=params.side, width=params.side, in_files=in_files)


def written_bytes(params: Params) -> int:
    """Return roughly how many bytes preparing the complete dataset writes; 0 for a part of it, whose size is not known."""
    if not params.strict:
        return 0
    points = sum(SPLIT_SAMPLES) * POINTS_BYTES if params.random_access else 0
    if params.storage == "files":
        return sum(SPLIT_SAMPLES) * INDEX_BYTES + points
    if params.storage == "array":
        return sum(SPLIT_SAMPLES) * 3 * params.side**2
    if params.shrink is None:
        return PUBLISHED_BYTES + points
    return min(PUBLISHED_BYTES, int(sum(SPLIT_SAMPLES) * SHRUNK_BYTES * params.shrink.side**2)) + points


@explained
def prepare(params: Params, *, raw: Path | None, out: Path, work: Path, num_workers: int) -> None:
    """Index the images in `raw`, and verify or copy them: folders train and val, or the archives; they are not changed.

    Raises:
        DataError: naming everything that is missing, surplus or damaged.
    """
    assert raw is not None
    problems = inventory.Problems()
    if params.storage == "array" and params.strict and not (work / "array").exists():
        check_free_space(work, written_bytes(params), "images")  # before archives are compared and listed
    found = {split: list(_pictures(raw, part, params, problems, work)) for part, split in _SPLITS.items()}
    problems.never_excused += _in_both_parts(found)
    class_names = _check_classes(found, problems, strict=params.strict)
    if incomplete := inventory.error_or_warning("ImageNet", raw, problems, strict=params.strict):
        raise DataError(incomplete)
    rows, parts = _rows(raw, found, class_names, mix=params.storage == "packed")
    files = ImageFiles(raw, rows, params.side)
    sums: Sums | None = None
    if params.storage == "array":
        sums = write_array(files, out, work=work, num_workers=num_workers)
    elif params.storage == "packed":
        options = packing(params.shrink, verify=params.verify, random_access=params.random_access)
        sums, places = write_packed(files, out, options, work=work, num_workers=num_workers)
        rows = [packed_row(row, place) for row, place in zip(rows, places, strict=True)]
        ImageFiles.save(out, None, params.side)
    else:
        if params.random_access:
            sums, places = write_entry_points(files, out, verify=params.verify, work=work, num_workers=num_workers)
            rows = [{**row, **place} for row, place in zip(rows, places, strict=True)]
        elif params.verify:
            sums = verify(files, work=work, num_workers=num_workers)
        ImageFiles.save(out, raw, params.side)
    if sums is not None:  # single images have no published checksums, so duplicates may be part of the dataset
        pairs = files.twins(sums, parts["test"], parts["train"])
        splits.tell_twins([(files.name(row), files.name(other)) for row, other in pairs], "images", strict=False)
    recipe = {"dataset": "imagenet", **params.model_dump(mode="json", exclude_none=True)}
    write_index(
        out,
        kind="images",
        class_names=class_names,
        rows=rows,
        splits=parts,
        recipe=recipe,
        statistics=STATISTICS["imagenet"],
    )


def _rows(
    raw: Path, found: dict[str, list[Picture]], class_names: list[str], *, mix: bool
) -> tuple[list[dict[str, Any]], dict[str, range]]:
    """Return the rows of the index, and the row numbers of each split."""
    labels = {name: label for label, name in enumerate(class_names)}
    rows: list[dict[str, Any]] = []
    parts: dict[str, range] = {}
    for split, pictures in found.items():
        of_split = [{**picture.row, "label": labels[picture.class_name]} for picture in pictures if picture.class_name in labels]
        if not of_split:
            raise DataError(f"{raw}: no images to {'train' if split == 'train' else 'test'} on")
        parts[split] = range(len(rows), len(rows) + len(of_split))
        rows += mixed(of_split) if mix else of_split
    return rows, parts


def _in_both_parts(found: dict[str, list[Picture]]) -> list[str]:
    """Return a line that names images to test on that are, through a link, also to train on; or no line."""
    tests = {picture.place: picture.row["id"] for picture in found["test"] if picture.place >= 0}
    shared = [f"{other} = {picture.row['id']}" for picture in found["train"] if (other := tests.get(picture.place))]
    return inventory.summarize("images are both to train and to test on", shared)


def _check_classes(found: dict[str, list[Picture]], problems: list[str], *, strict: bool) -> list[str]:
    """Return the classes; add missing and surplus ones to `problems`."""
    counts = {split: Counter(picture.class_name for picture in pictures) for split, pictures in found.items()}
    class_names = list(SYNSETS) if strict else sorted(counts["train"])
    expected = {"train": TRAIN_PER_CLASS, "test": VAL_PER_CLASS}
    for split, count in counts.items():
        problems += inventory.summarize(f"classes of {split} without images", [name for name in class_names if not count[name]])
        problems += inventory.summarize(f"classes of {split} that do not belong", sorted(set(count) - set(class_names)))
        if strict:
            wrong = [f"{name} {count[name]}" for name in class_names if count[name] and count[name] not in expected[split]]
            problems += inventory.summarize(f"classes of {split} with too few or too many images", wrong)
    if strict and (total := sum(counts["train"].values())) != SPLIT_SAMPLES[0]:
        problems.append(f"{total} images to train on, expected {SPLIT_SAMPLES[0]}")
    return class_names


def _pictures(root: Path, part: str, params: Params, problems: list[str], work: Path) -> Iterator[Picture]:
    """Yield the images of one part, sorted by class and name; `work` is for notes that survive an interruption."""
    folder = _look(root, part)
    if folder is not None and folder.is_dir():
        has_classes = any(entry.is_dir() for entry in os.scandir(folder))
        one_folder = part == "val" and not has_classes
        yield from _in_one_folder(root, folder, params, problems) if one_folder else _in_folders(root, folder, problems)
        return
    archive = _look(root, f"ILSVRC2012_img_{part}.tar")
    if archive is None:
        raise DataError(
            f"{root}: no ImageNet here: neither a folder {part} nor ILSVRC2012_img_{part}.tar, also not below extract, download "
            "or ILSVRC/Data/CLS-LOC. It cannot be downloaded by a program: ask for it at https://image-net.org/download.php"
        )
    if params.strict:
        _check_published(archive, work / f"{archive.name}.published")
    yield from sorted(_in_archive(root, archive, params, problems), key=lambda picture: picture.row["id"])


def _check_published(archive: Path, note: Path) -> None:
    """Compare an archive with its published md5, which takes minutes, unless an interrupted run noted that it matches."""
    state = state_of(archive)
    if note.is_file() and note.read_text(encoding="utf-8") == state:
        return
    log.info("comparing %s with its published md5", archive)
    archives.check_md5({archive: MD5[archive.name]})
    write_text(note, state)


def _look(root: Path, name: str) -> Path | None:
    """Find a file or folder by name in the usual places."""
    tops = (root, root / "extract", root / "download")
    return next((found for top in tops for below in _BELOW if (found := top / below / name).exists()), None)


def _in_folders(root: Path, folder: Path, problems: list[str]) -> Iterator[Picture]:
    """Yield images in folders named by their classes."""
    stray: list[str] = []
    other: list[str] = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if not entry.is_dir():
            (other if _is_other(entry.name) else stray).append(entry.path)
            continue
        for name, place in _listing(entry.path):
            if _is_other(name):
                other.append(f"{entry.path}/{name}")
            else:
                yield Picture(entry.name, {"id": str(Path(entry.path, name).relative_to(root))}, place)
    for line in inventory.summarize("ignored files that are not images", other):
        log.info("%s", line)
    problems += inventory.summarize("images beside the class folders", stray)


def _listing(folder: str | Path) -> list[tuple[str, int]]:
    """Return name and place of the entries of a folder, sorted."""
    device = os.stat(folder).st_dev  # noqa: PTH116 - of a string, as os.scandir gives it
    with os.scandir(folder) as entries:
        return sorted((entry.name, _place(entry, device)) for entry in entries)


def _place(entry: os.DirEntry[str], device: int) -> int:
    """Return the place of a file; stat is called only for links, because there are a million files."""
    if not entry.is_symlink():
        return device << 64 | entry.inode()
    try:
        found = entry.stat()
    except FileNotFoundError:
        return -1  # a broken link is reported when it is read
    return found.st_dev << 64 | found.st_ino


def _is_other(name: str) -> bool:
    return archives.is_clutter(name) or not name.lower().endswith(_SUFFIXES)


def _in_one_folder(root: Path, folder: Path, params: Params, problems: list[str]) -> Iterator[Picture]:
    """Yield validation images as published, in one folder; their classes are in the development kit or in Kaggle's table."""
    names = [(name, place) for name, place in _listing(folder) if not _is_other(name)]
    if not names:
        problems.append(f"no images in {folder}")
        return
    truth = validation_classes(root, functools.partial(_look, root), strict=params.strict)
    rows = ((name, {"id": str((folder / name).relative_to(root))}, place) for name, place in names)
    yield from _labelled(rows, truth, problems)


def _in_archive(root: Path, archive: Path, params: Params, problems: list[str]) -> Iterator[Picture]:
    """Yield images in a tar archive; the training archive contains an archive for each class."""
    path, file = str(archive.relative_to(root)), archive.stat()
    here = (file.st_dev << 64 | file.st_ino) << 64
    with archives.reading_tar(archive), archive.open("rb") as stream:
        members = _members(stream, file.st_size)
        if archive.name == "ILSVRC2012_img_val.tar":
            truth = validation_classes(root, functools.partial(_look, root), strict=params.strict)
            rows = [(m.name, _row(f"val/{m.name}", path, m), here | m.offset_data) for m in members]
            yield from _labelled(iter(rows), truth, problems)
            return
        for inner in list(members):
            class_name = PurePosixPath(inner.name).stem
            stream.seek(inner.offset_data)
            for m in _members(stream, inner.offset_data + inner.size):
                yield Picture(class_name, _row(f"train/{class_name}/{m.name}", path, m), here | m.offset_data)


def _members(stream: io.BufferedReader, end: int) -> Iterator[tarfile.TarInfo]:
    """Yield the files of the tar archive that begins at the stream's position; offsets count from the start of the stream."""
    with tarfile.TarFile(fileobj=cast(BinaryIO, archives.BoundedStream(stream))) as opened:
        for member in archives.tar_members(opened):
            if member.offset_data + member.size > end:
                raise tarfile.ReadError(f"it ends within {member.name}")
            if member.isfile() and not archives.is_clutter(member.name):
                yield member


def _row(name: str, archive: str, member: tarfile.TarInfo) -> dict[str, Any]:
    return {"id": name, "archive": archive, "offset": member.offset_data, "size": member.size}


def _labelled(rows: Iterator[tuple[str, dict[str, Any], int]], truth: dict[int, str], problems: list[str]) -> Iterator[Picture]:
    unknown = []
    for name, row, place in rows:
        class_name = truth.get(-1 if (number := validation_number(name)) is None else number)
        if class_name is None:
            unknown.append(row["id"])
        else:
            yield Picture(class_name, row, place)
    problems += inventory.summarize("validation images whose class is not known", unknown)
