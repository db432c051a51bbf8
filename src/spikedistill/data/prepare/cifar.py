"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) as downloaded: pickles or binary records, in a folder or in their archive.

The unpickler makes lists, mappings and plain values, and reads arrays of bytes itself; it imports nothing, so that a file cannot
run code.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import pickletools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from pydantic import Field

from spikedistill.components import ComponentParams
from spikedistill.data.formats import archives
from spikedistill.data.formats.files import check_free_space, read_file
from spikedistill.data.meta import DatasetMeta
from spikedistill.data.prepare import inventory, splits
from spikedistill.data.prepare.index import write_index
from spikedistill.errors import DataError

SIDE = 32
PIXELS = 3 * SIDE * SIDE
SPLITS = ("train", "test")
ADDRESS = "https://www.cs.toronto.edu/~kriz/"
MAX_FILE_BYTES = 512 << 20  # the largest published file has 155 MB

Pictures = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]  # [N, 3072] and labels [N]


class CifarParams(ComponentParams):
    """The published training and test sets are the splits."""

    strict: bool = Field(
        True, description="Require every file, with its published md5; false: use the files that are there and can be read."
    )


@dataclass(frozen=True)
class Form:
    """One of the forms in which a dataset is published.

    Attributes:
        folder: folder that the archive unpacks to.
        archive: file name of the archive.
        md5: of the archive.
        files: name and md5 of each file, by split; None where no md5 is published.
        labels: label bytes before each picture of a binary record, of which the last one is used; 0: the files are pickles.
    """

    folder: str
    archive: str
    md5: str
    files: Mapping[str, Mapping[str, str | None]]
    labels: int = 0

    @property
    def names(self) -> list[str]:
        """Names of all files."""
        return [name for files in self.files.values() for name in files]

    def is_in(self, folder: Path) -> bool:
        """Return whether any of the files is in a folder."""
        return any((folder / name).is_file() for name in self.names)


@dataclass(frozen=True)
class Cifar:
    """One of the two datasets.

    Attributes:
        name: for messages.
        class_names: in the order of the labels.
        label_key: key of the labels in pickles.
        per_class: pictures of each class, by split.
        forms: published forms; the first one is downloaded.
    """

    name: str
    class_names: tuple[str, ...]
    label_key: str
    per_class: Mapping[str, int]
    forms: tuple[Form, ...]

    def describe(self) -> DatasetMeta:
        """Return classes and shape of the dataset."""
        return DatasetMeta("images", self.class_names, channels=3, height=SIDE, width=SIDE)

    def prepare(self, params: CifarParams, raw: Path, out: Path) -> None:
        """Write images.npy, uint8 [N, 3, 32, 32], training pictures first, and its index.

        Args:
            params: whether files may be missing or differ.
            raw: the user's folder; if it is empty, the archive is downloaded into it from the authors' site.
            out: folder to write to.

        Raises:
            DataError: naming every file that is missing, damaged or not as published.
        """
        form, where, contents = self._find(raw, params)
        pictures, members, problems = self._decode(form, where, contents)
        problems.never_excused += _linked_files(where, form)
        problems += _same_files(form, contents)
        for split, count in self.per_class.items():
            problems += self._count(split, pictures[split], count)
        if incomplete := inventory.error_or_warning(self.name, raw, problems, strict=params.strict):
            raise DataError(incomplete)
        empty = [split for split in SPLITS if not pictures[split]]
        if empty:
            raise DataError(f"{raw}: no {' and no '.join(empty)} pictures of {self.name} that can be used")
        images = np.concatenate([images for split in SPLITS for images, _ in pictures[split]])
        labels = np.concatenate([labels for split in SPLITS for _, labels in pictures[split]])
        num_train = sum(len(labels) for _, labels in pictures["train"])
        splits.tell_twins(_twins(images, members, num_train), "pictures", strict=False)  # there are a few in CIFAR-100
        check_free_space(out, images.nbytes, "pictures")
        np.save(out / "images.npy", images.reshape(-1, 3, SIDE, SIDE))
        write_index(
            out,
            kind="images",
            class_names=self.class_names,
            rows=[{"id": name, "label": int(label)} for name, label in zip(members, labels, strict=True)],
            splits={"train": range(num_train), "test": range(num_train, len(labels))},
            recipe={"dataset": self.name.lower(), "form": form.folder, **params.model_dump(mode="json")},
        )

    def _find(self, root: Path, params: CifarParams) -> tuple[Form, Path, Mapping[str, bytes | DataError]]:
        """Return the form that is there, its folder or archive, and for each of its files the content, or why there is none."""
        if archives.is_empty_but_for(root, "download"):
            first = self.forms[0]
            archives.download([(first.archive, ADDRESS + first.archive, first.md5)], root / "download")
        for form in self.forms:
            folder = inventory.find_folder(root, [form.folder], form.is_in)
            if folder is not None:
                return form, folder, _read_folder(folder, form, strict=params.strict)
        for form in self.forms:
            found = inventory.find_archives(root, [form.archive])
            if found:
                if params.strict:
                    archives.check_md5({found[form.archive]: form.md5})
                archive = found[form.archive]
                return form, archive, archives.read_tar(archive, form.names, limit=MAX_FILE_BYTES)
        folders, names = (" or ".join(getattr(form, key) for form in self.forms) for key in ("folder", "archive"))
        raise DataError(
            f"{root}: no {self.name} here: neither a folder {folders} nor an archive {names}, also not below extract or "
            f"download. Get one from {ADDRESS}cifar.html, or name an empty folder to have it downloaded"
        )

    def _decode(
        self, form: Form, where: Path, contents: Mapping[str, bytes | DataError]
    ) -> tuple[dict[str, list[Pictures]], list[str], inventory.Problems]:
        """Return the pictures by split, their names, and the problems."""
        pictures: dict[str, list[Pictures]] = {split: [] for split in SPLITS}
        members: list[str] = []
        missing, damaged = [], []
        for split in SPLITS:
            for name in form.files[split]:
                content = contents.get(name)
                if content is None:
                    missing.append(name)
                    continue
                try:
                    found = self._pictures(form, name, content)
                except DataError as err:
                    damaged.append(str(err))
                    continue
                pictures[split].append(found)
                members += [f"{name}/{number:05d}" for number in range(len(found[1]))]
        if damaged:
            raise DataError(
                f"{len(damaged)} of {len(form.names)} files of {self.name} in {where} cannot be used:\n  " + "\n  ".join(damaged)
            )
        problems = inventory.Problems()
        problems += inventory.summarize("files missing", missing)
        return pictures, members, problems

    def _pictures(self, form: Form, name: str, content: bytes | DataError) -> Pictures:
        if isinstance(content, DataError):
            raise content
        images, labels = _records(content, name, form.labels) if form.labels else _pickled(content, name, self.label_key)
        low, high = min(labels, default=0), max(labels, default=0)
        if not 0 <= low <= high < len(self.class_names):
            found = f"{low} to {high}" if max(abs(low), abs(high)) < 1 << 63 else f"beyond {1 << 63}"
            raise DataError(f"{name}: labels from {found}, expected 0 to {len(self.class_names) - 1}; get it again")
        return images, np.array(labels, dtype=np.int64)

    def _count(self, split: str, pictures: list[Pictures], expected: int) -> list[str]:
        """Return a problem if classes do not have the expected number of pictures."""
        if not pictures:
            return []
        counts = np.bincount(np.concatenate([labels for _, labels in pictures]), minlength=len(self.class_names))
        wrong = [f"{self.class_names[label]} {counts[label]}" for label in np.flatnonzero(counts != expected)]
        return inventory.summarize(f"classes of {split} without {expected} pictures", wrong)


def _read_folder(folder: Path, form: Form, *, strict: bool) -> dict[str, bytes | DataError]:
    contents: dict[str, bytes | DataError] = {}
    for name, md5 in ((name, md5) for files in form.files.values() for name, md5 in files.items()):
        path = folder / name
        if not path.exists():
            continue
        try:
            content = read_file(path, limit=MAX_FILE_BYTES)
        except DataError as err:
            contents[name] = err
            continue
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if strict and md5 is not None and found != md5:
            advice = "get it again, or set strict: false to use it anyway"
            contents[name] = DataError(f"{path}: {len(content)} bytes, md5 {found}, expected {md5}; {advice}")
        else:
            contents[name] = content
    return contents


def _linked_files(folder: Path, form: Form) -> list[str]:
    paths = {split: [folder / name for name in files] for split, files in form.files.items()}
    return inventory.in_two_parts({split: [str(path) for path in each if path.exists()] for split, each in paths.items()})


def _same_files(form: Form, contents: Mapping[str, bytes | DataError]) -> list[str]:
    """Return a line that names files to test on with the content of one to train on; or no line."""
    names = ((test, other) for test in form.files["test"] for other in form.files["train"])
    same = [f"{test} = {other}" for test, other in names if test in contents and contents[test] == contents.get(other)]
    return inventory.summarize("files to test on are copies of files to train on", same)


def _twins(images: npt.NDArray[np.uint8], names: list[str], num_train: int) -> list[tuple[str, str]]:
    """Return the names of each picture to test on and of the same picture to train on, where there is one."""
    sums = [hashlib.blake2b(image.data, digest_size=16).digest() for image in np.ascontiguousarray(images)]
    to_train = dict(zip(reversed(sums[:num_train]), reversed(names[:num_train]), strict=True))
    pairs = zip(names[num_train:], sums[num_train:], strict=True)
    return [(name, to_train[digest]) for name, digest in pairs if digest in to_train]


def _records(content: bytes, name: str, label_bytes: int) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """Decode binary records: labels, then 1024 red, green and blue values."""
    size = label_bytes + PIXELS
    if not content or len(content) % size:
        raise DataError(
            f"{name}: {len(content)} bytes are not a whole number of records of {size} bytes; truncated or another file"
        )
    table = np.frombuffer(content, dtype=np.uint8).reshape(-1, size)
    return table[:, label_bytes:], table[:, label_bytes - 1].tolist()


class _Dtype:
    """What a pickle says of the type of an array."""

    def __init__(self, code: str, *_: Any) -> None:
        self.is_bytes = code in ("u1", "|u1")

    def __setstate__(self, state: Any) -> None:
        """Ignore the details: bytes have none."""


class _Array:
    """What a pickle says of an array; `values` are those of an array of bytes in C order, and None for any other."""

    values: npt.NDArray[np.uint8] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, in_columns, content = state
        if isinstance(dtype, _Dtype) and dtype.is_bytes and not in_columns:
            raw = content.encode("latin1") if isinstance(content, str) else content  # Python 2 pickles bytes as text
            self.values = np.frombuffer(raw, dtype=np.uint8).reshape(shape)


class _Subtype:
    """Stands for the class `numpy.ndarray`, of which `_reconstruct` makes an instance."""


def _reconstruct(subtype: Any, shape: Any, kind: Any) -> _Array:
    return _Array()


def _frombuffer(content: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order != "C", content))
    return array


def _scalar(dtype: Any, content: Any = b"") -> None:
    """Stand in for a numpy scalar, whose value is not used."""


def _encode(text: str, encoding: str) -> bytes:
    """Return the bytes that newer versions of Python write as text."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text in {encoding[:20]!r}")
    return text.encode("latin1")


_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy", "ndarray"): _Subtype,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}
"""What pickles of arrays name, as Python 2 and 3 and all versions of numpy write them, and what is called instead."""
_MAX_MEMO = 1 << 20  # largest memo index: the unpickler allocates a table up to the largest one that a pickle uses


class _PlainUnpickler(pickle.Unpickler):
    """Unpickler of arrays and plain values."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it wants to call {module}.{name}")
        return _STAND_INS[module, name]

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("it refers to something outside")


def _unpickled(content: bytes) -> Any:
    for code, argument, _ in pickletools.genops(content):
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(argument or 0) < _MAX_MEMO:
            raise pickle.UnpicklingError(f"object number {argument}")
    return _PlainUnpickler(io.BytesIO(content), encoding="latin1").load()


def _pickled(content: bytes, name: str, label_key: str) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """Decode a pickled mapping with "data", uint8 [N, 3072], and a list of labels."""
    try:
        batch = _unpickled(content)
        batch = {k.decode() if isinstance(k, bytes) else k: v for k, v in batch.items()} if isinstance(batch, dict) else {}
    except Exception as err:  # damaged bytes can make a pickle raise anything
        raise DataError(f"{name}: not a pickle of CIFAR that can be read ({err}); first bytes {content[:8]!r}") from err
    images, labels = getattr(batch.get("data"), "values", None), batch.get(label_key)
    if not isinstance(images, np.ndarray) or images.ndim != 2 or images.shape[1] != PIXELS:
        raise DataError(f'{name}: no array "data" of {PIXELS} bytes per picture in it; get it again')
    if not isinstance(labels, list) or len(labels) != len(images) or not all(isinstance(label, int) for label in labels):
        raise DataError(f"{name}: no list {label_key!r} of {len(images)} labels in it, one per picture; get it again")
    return images, labels
