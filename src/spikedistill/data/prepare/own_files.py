"""Users' own files: class folders, or a table of paths and labels; a split that is found or drawn. No file is changed.

A plan looks into the folder once (`find`), and what it found goes into the spec with a digest of the listing (`content`): two
folders never share an id, the same files elsewhere have the same one, and a folder that changed after planning is an error.
"""

from __future__ import annotations

import fnmatch
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import Field

from spikedistill.components import ComponentParams, Section
from spikedistill.data.formats.archives import files_below, is_clutter
from spikedistill.data.formats.files import reason
from spikedistill.data.prepare import inventory, own_table
from spikedistill.data.prepare.own_splits import Draw, Parts, drawn, found_parts
from spikedistill.errors import DataError

log = logging.getLogger(__name__)

_MAX_NAMED_CLASSES = 8


class Samples(Section):
    """Numbers of samples."""

    train: int = Field(ge=1, description="Samples to train on.")
    test: int = Field(ge=1, description="Samples to test on.")


class OwnFilesParams(ComponentParams):
    """Where classes and splits of users' own files come from. What is not given is found in the folder, and reported."""

    table: str | None = Field(
        None,
        description="A CSV file below root with the columns path, label and perhaps split, instead of class folders. Default: "
        "the one directly in root that has such a heading, if there is one.",
    )
    parts: Parts | None = Field(
        None,
        description="Which folders, or values of the column split, are to train and to test on, as in {train: train, test: val}. "
        "Default: train, and the only one of test, val, valid and validation.",
    )
    split: Draw | None = Field(
        None, description="Where no split is found: draw one, class by class, as in {test: 0.1, seed: 0}. There is no default."
    )
    classes: tuple[str, ...] | None = Field(
        None, min_length=2, description="Names of the classes in the order of their labels. Default: as found, sorted as text."
    )
    ignore: tuple[str, ...] = Field(
        (), description='Patterns of files to pass over, such as ["*.md"]; any other file of another format is an error.'
    )
    strict: bool = Field(True, description="A sample to test on that is a copy of one to train on is an error; false: a warning.")
    samples: Samples | None = Field(None, description="Numbers of samples, for estimates. Found, not set.")
    content: str | None = Field(
        None, description="Digest of names and sizes of the files that are used. Found, not set: a changed folder gets a new id."
    )


@dataclass(frozen=True)
class OwnFile:
    """One sample: its path below the root, its size in bytes, its class, and the split it belongs to, empty if not known."""

    path: str
    size: int
    class_name: str
    split: str = ""


@dataclass(frozen=True)
class Listing:
    """What is in a folder.

    Attributes:
        root: the folder.
        files: all samples, sorted by path.
        parts: which folders or values of a column are the splits; None: they have none.
        digest: of names, sizes, splits and classes of the files.
    """

    root: Path
    files: tuple[OwnFile, ...]
    parts: Parts | None
    digest: str

    def class_names(self, params: OwnFilesParams) -> tuple[str, ...]:
        """Return the names of the classes, in the order of their labels.

        Raises:
            DataError: if there are fewer than two, or not those that are stated.
        """
        found = sorted({file.class_name for file in self.files})
        if params.classes is not None:
            lines = inventory.summarize("classes that dataset.params.classes lacks", sorted(set(found) - set(params.classes)))
            lines += inventory.summarize("of its classes without a file", [n for n in params.classes if n not in found])
            if lines or len(set(params.classes)) != len(params.classes):
                raise DataError(f"{self.root}: {'; '.join(lines) or 'a class is stated twice'}")
            return params.classes
        if len(found) < 2:
            only = f"only the class {found[0]!r}" if found else "no class folders with files"
            raise DataError(f"{self.root}: {only}; expected a folder for each class, perhaps within train and test, or a table")
        return tuple(found)

    def labels(self, class_names: Sequence[str]) -> list[int]:
        """Return the label of each file: the position of its class among some names, which have all classes."""
        numbers = {name: label for label, name in enumerate(class_names)}
        return [numbers[file.class_name] for file in self.files]

    def splits(self, params: OwnFilesParams, class_names: Sequence[str]) -> dict[str, list[int]]:
        """Return the files of each split, as positions in `files`.

        Raises:
            DataError: if there is no split, or one of its halves or a class to train on is empty.
        """
        if self.parts is not None:
            lists = {name: [n for n, file in enumerate(self.files) if file.split == name] for name in ("train", "test")}
        else:
            assert params.split is not None
            lists = drawn(self.labels(class_names), params.split, class_names)
        for name, members in lists.items():
            there = Counter(self.files[n].class_name for n in members)
            missing = inventory.summarize(f"classes without a sample to {name} on", [c for c in class_names if not there[c]])
            if not members or (missing and name == "train"):
                raise DataError(f"{self.root}: {missing[0] if members else f'no samples to {name} on'}")
            for line in missing:
                log.warning("%s: %s", self.root, line)
        return lists


def find(root: Path, params: OwnFilesParams, suffixes: tuple[str, ...]) -> Listing:
    """List the samples in a folder.

    Args:
        root: the folder.
        params: what is stated.
        suffixes: endings of samples, in lower case.

    Raises:
        DataError: naming what is missing, does not belong, or has to be stated.
    """
    try:
        table = own_table.find(root, params.table)
        files, parts = _from_table(root, params, table) if table else _from_folders(root, params, suffixes)
        sizes = [os.stat(root / file.path).st_size for file in files]  # noqa: PTH116 - there are many of them
    except OSError as err:
        raise DataError(f"{err.filename or root}: {reason(err)}") from err
    foreign = [file.path for file in files if not file.path.lower().endswith(suffixes)]
    if foreign or not files:
        lines = inventory.summarize(
            "files of another format (move them away, or list patterns in dataset.params.ignore)", foreign
        )
        raise DataError(f"{root}: {lines[0] if lines else 'no samples: expected a folder for each class, with files in it'}")
    _check_split(root, params, parts)
    found = sorted(
        (OwnFile(f.path, size, f.class_name, f.split) for f, size in zip(files, sizes, strict=True)), key=lambda file: file.path
    )
    digest = digest_of(f"{file.path}\0{file.size}\0{file.split}\0{file.class_name}\n" for file in found)
    return Listing(root, tuple(found), parts, digest)


def _check_split(root: Path, params: OwnFilesParams, parts: Parts | None) -> None:
    if parts is None and params.split is None:
        raise DataError(
            f"{root}: no split: neither folders train and test (or val) nor a table with a column split. Draw one, for instance "
            "with dataset.params.split: {test: 0.1, seed: 0}"
        )
    if parts is not None and params.split is not None:
        raise DataError(
            f"{root}: a split is there ({parts.train} and {parts.test}), and dataset.params.split would draw another: remove one"
        )


def digest_of(lines: Iterable[str]) -> str:
    """Return the digest of a listing of files, a line for each."""
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _from_table(root: Path, params: OwnFilesParams, table: Path) -> tuple[list[OwnFile], Parts | None]:
    entries = own_table.read(table, root)
    values = {entry.split for entry in entries}
    parts = found_parts(values - {""}, params.parts, f"{table}: column split") if values != {""} else None
    if parts is not None:
        parts_of = {parts.train: "train", parts.test: "test"}
        _tell_left_out(table, "samples", [entry.path for entry in entries if entry.split not in parts_of])
        files = [OwnFile(e.path, 0, e.label, parts_of[e.split]) for e in entries if e.split in parts_of]
    else:
        files = [OwnFile(entry.path, 0, entry.label) for entry in entries]
    log.info("%s: classes%s are those of the table", table, " and splits" if parts else "")
    return files, parts


def _from_folders(root: Path, params: OwnFilesParams, suffixes: tuple[str, ...]) -> tuple[list[OwnFile], Parts | None]:
    tops = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not is_clutter(entry.name))
    parts = found_parts(set(tops), params.parts, str(root))
    if parts is None:
        return _in_classes(root, root, "", params, suffixes), None
    _tell_left_out(root, "folders", [name for name in tops if name not in (parts.train, parts.test)])
    files = []
    for split, name in (("train", parts.train), ("test", parts.test)):
        files += _in_classes(root, root / name, split, params, suffixes)
    return files, parts


def _in_classes(root: Path, folder: Path, split: str, params: OwnFilesParams, suffixes: tuple[str, ...]) -> list[OwnFile]:
    """Return the files in the class folders of a folder."""
    beside: list[str] = []
    files: list[OwnFile] = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if is_clutter(entry.name) or _is_ignored(entry.name, params):
            continue
        if not entry.is_dir():
            beside.append(entry.path)
            continue
        for member in files_below(Path(entry.path)):
            path = os.path.relpath(member.path, root)
            if not is_clutter(path) and "/." not in path and not _is_ignored(path, params):
                files.append(OwnFile(path, 0, entry.name, split))
    endings = {PurePosixPath(file.path).suffix.lower() for file in files}
    wanted = tuple(suffix for suffix in suffixes if not endings or suffix in endings)
    stray = [path for path in beside if path.lower().endswith(wanted)]
    if lines := inventory.summarize("samples lie beside the class folders", stray):
        raise DataError(f"{folder}: {lines[0]}; move them into one, or list them in dataset.params.ignore")
    for line in inventory.summarize(f"files beside the class folders of {folder} are not used", beside):
        log.info("%s", line)
    return files


def _is_ignored(path: str, params: OwnFilesParams) -> bool:
    name = path.rpartition("/")[2]
    return any(fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(path, pattern) for pattern in params.ignore)


def _tell_left_out(place: Path, what: str, names: Sequence[str]) -> None:
    for line in inventory.summarize(f"{what} of neither part are not used", names):
        log.warning("%s: %s", place, line)


def found_in(listing: Listing, params: OwnFilesParams) -> dict[str, object]:
    """Return classes, splits, numbers of samples and content, as updates of the parameters."""
    class_names = listing.class_names(params)
    lists = listing.splits(params, class_names)
    samples = Samples(train=len(lists["train"]), test=len(lists["test"]))
    return {"classes": class_names, "parts": listing.parts, "samples": samples, "content": listing.digest}


def checked(listing: Listing, params: OwnFilesParams) -> tuple[tuple[str, ...], dict[str, list[int]]]:
    """Return classes and splits of a folder, checked again when it is prepared.

    Raises:
        DataError: if it does not have the files that this was planned with, or a file is in both splits.
    """
    check_unchanged(listing.root, listing.digest, params.content)
    class_names = listing.class_names(params)
    lists = listing.splits(params, class_names)
    in_two_splits(listing, lists)
    return class_names, lists


def check_unchanged(root: Path, digest: str, planned: str | None) -> None:
    """Check that a folder has the files that its preparation was planned with, if it was planned.

    Raises:
        DataError: if it does not.
    """
    if planned is not None and planned != digest:
        raise DataError(
            f"{root}: not the files that this was planned with (their names and sizes have the digest {digest}, "
            f"planned was {planned}). A file was added, removed or changed since: plan again, which gives a new id"
        )


def in_two_splits(listing: Listing, lists: Mapping[str, Sequence[int]]) -> None:
    """Check that no file is in both splits, through a link.

    Raises:
        DataError: naming such files.
    """
    paths = {split: [str(listing.root / listing.files[n].path) for n in members] for split, members in lists.items()}
    if lines := inventory.in_two_parts(paths):
        raise DataError(f"{listing.root}: {lines[0]}; put a file where a link is, or remove one")


def described(params: OwnFilesParams) -> str:
    """Return classes, samples and splits in words."""
    names = params.classes or ()
    shown = ", ".join(names[:_MAX_NAMED_CLASSES]) + (", …" if len(names) > _MAX_NAMED_CLASSES else "")
    counts = f"{params.samples.train} + {params.samples.test} samples" if params.samples else "samples"
    if params.parts is not None:
        how = f"to train on: {params.parts.train}, to test on: {params.parts.test}"
    else:
        how = f"drawn class by class, {params.split.test:g} to test on, seed {params.split.seed}" if params.split else ""
    return f"{len(names)} classes ({shown}), {counts} ({how})"
