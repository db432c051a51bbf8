"""Images in files or archives, each decoded when it is asked for.

Letters: N sample, S side.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.decoding import pillow
from spikedistill.data.formats.decoding.encoded import EncodedImage
from spikedistill.data.formats.files import in_units, read_file, read_json, reason
from spikedistill.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

INDEX = "files.json"
MAX_FILE_BYTES = 256 << 20
POINTS_KEYS = ("points", "points_offset", "points_size")
"""Keys of a row: the file below the prepared dataset with the entry points of its JPEG, and their place in it, in bytes."""
_HEADER_BYTES = 4096  # between two files of a tar archive, at most


class ImageFiles:
    """The samples of a dataset that stays in the user's files, in place of the array that other datasets have.

    Attributes:
        shape: (N, 3, S, S), as if each image were its middle square, with the shorter side resized to S.
        dtype: uint8.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, root: Path, rows: Sequence[Mapping[str, Any]], side: int, folder: Path | None = None) -> None:
        """Use files below a folder.

        Args:
            root: the folder.
            rows: rows of an index with "id", the path below the folder; for an image in a tar archive also with "archive", the
                archive's path below the folder, and "offset" and "size" of the image in it, in bytes.
            side: S in pixels.
            folder: of the prepared dataset, if rows have POINTS_KEYS, which are places in it.
        """
        self._root, self._rows, self._folder = root, rows, folder
        self.shape = (len(rows), 3, side, side)

    @classmethod
    def open(cls, folder: Path, rows: Sequence[Mapping[str, Any]]) -> ImageFiles:
        """Open the images of a prepared dataset, which `save` noted there.

        Raises:
            DataError: if the folder of the images no longer exists, or the notes of `save` are damaged.
        """
        index = read_json(folder / INDEX)
        if not isinstance(index, dict) or not isinstance(index.get("root"), str) or type(index.get("side")) is not int:
            found = f"found {str(index)[:80]!r}; run the preprocess stage again"
            raise DataError(f"{folder / INDEX}: expected the folder and the side of the images, {found}")
        root = folder / index["root"]
        if not root.is_dir():
            raise DataError(
                f"{folder}: its images are read from {root}, which does not exist. Put the folder back, or prepare the data "
                f"again from its new place: remove {folder}, set dataset.root, run snakemake"
            )
        return cls(root, rows, index["side"], folder)

    @staticmethod
    def save(folder: Path, root: Path | None, side: int) -> None:
        """Note the folder of the images in a prepared dataset; None: they are in the dataset itself."""
        notes = {"root": "." if root is None else str(root.resolve()), "side": side}
        (folder / INDEX).write_text(json.dumps(notes, indent=1) + "\n", encoding="utf-8")

    def __len__(self) -> int:
        """Return N."""
        return len(self._rows)

    def read(self, row: int) -> Image.Image:
        """Decode one image.

        Raises:
            DataError: if it cannot be read or decoded, or is too narrow for a square of its side to be cut from it.
        """
        return self.decoded(row, self.content(row))

    @property
    def root(self) -> Path:
        """Return the folder that the images are below."""
        return self._root

    def row(self, row: int) -> Mapping[str, Any]:
        """Return what the index says of one image."""
        return self._rows[row]

    def path(self, entry: Mapping[str, Any]) -> str:
        """Return the file that an image of the index is in: its own, or an archive."""
        return f"{self._root}/{entry.get('archive') or entry['id']}"

    def content(self, row: int) -> bytes:
        """Return the bytes of one image.

        Raises:
            DataError: if they cannot be read.
        """
        entry = self._rows[row]
        if "archive" not in entry:
            return read_file(self.path(entry), limit=MAX_FILE_BYTES)
        path, size, offset = self._root / entry["archive"], entry["size"], entry["offset"]
        if not 0 <= size <= MAX_FILE_BYTES:
            raise DataError(f"{path}/{entry['id']}: {in_units(size)}, where at most {in_units(MAX_FILE_BYTES)} are expected")
        content = _read_part(path, size, offset)
        if len(content) != size:
            found = f"{len(content)} of its {size} bytes are there: the archive is cut off"
            raise DataError(f"{path}/{entry['id']}: {found}; get it again")
        return content

    def _entry_points(self, entry: Mapping[str, Any]) -> bytes:
        """Return the entry points of an image that are in the prepared dataset; empty if there are none."""
        if self._folder is None or not entry.get("points_size"):
            return b""
        file, offset, size = (entry[key] for key in POINTS_KEYS)
        content = _read_part(self._folder / file, size, offset)
        if len(content) != size:
            raise DataError(f"{self._folder / file}: it is cut off; run the preprocess stage again")
        return content

    def contents(self, rows: Sequence[int]) -> list[bytes]:
        """Return the bytes of several images: by one request, if they follow each other in an archive.

        Raises:
            DataError: as `content`.
        """
        entries = [self._rows[row] for row in rows]
        if len(entries) > 1 and _follow_each_other(entries):
            start, end = entries[0]["offset"], entries[-1]["offset"] + entries[-1]["size"]
            part = memoryview(_read_part(self._root / entries[0]["archive"], end - start, start))
            if len(part) == end - start:
                places = (entry["offset"] - start for entry in entries)
                return [bytes(part[at : at + entry["size"]]) for at, entry in zip(places, entries, strict=True)]
        return [self.content(row) for row in rows]

    def name(self, row: int) -> str:
        """Return the place of one image, for messages."""
        entry = self._rows[row]
        return f"{self.path(entry)}/{entry['id']}" if entry.get("archive") else self.path(entry)

    def decoded(self, row: int, content: bytes) -> Image.Image:
        """Decode one image from its bytes; see `read`."""
        image = pillow.read_image(self.name(row), content)
        self._check_shape(row, *image.size)
        return image

    def encoded(self, row: int, content: bytes, *, fast: bool = False) -> EncodedImage:
        """Return one image, given its bytes, to make crops from; `fast` as for `EncodedImage`.

        Raises:
            DataError: as `read`, as far as its header tells.
        """
        image = EncodedImage(self.name(row), content, fast=fast, points=self._entry_points(self._rows[row]))
        self._check_shape(row, image.width, image.height)
        return image

    def _check_shape(self, row: int, width: int, height: int) -> None:
        side, shorter, longer = self.shape[-1], min(width, height), max(width, height)
        if side * side * longer > pillow.largest_image() * shorter:
            raise DataError(f"{self.name(row)}: {width} x {height} pixels, too narrow to be resized to {side}; another file?")

    @property
    def how(self) -> dict[str, Any]:
        """Return how the images are decoded, in JSON; together with the root and the rows, it defines the images completely."""
        return {"square": self.shape[-1]}

    def values(self, row: int, content: bytes) -> npt.NDArray[np.uint8]:
        """Return the values of one image in an array, [3, S, S], from its bytes.

        Raises:
            DataError: if it cannot be decoded.
        """
        return self.encoded(row, content).middle_square(self.shape[-1])

    def square(self, row: int) -> npt.NDArray[np.uint8]:
        """Return the middle square of one image, [3, S, S]."""
        return self.encoded(row, self.content(row)).middle_square(self.shape[-1])

    def twins(self, sums: npt.NDArray[np.uint64], rows: Sequence[int], others: Sequence[int]) -> list[tuple[int, int]]:
        """Return pairs of identical files: each of `rows` that has a copy among `others`, and the first such copy.

        Args:
            sums: size and CRC-32 of each file in one number, size << 32 | CRC-32.
            rows: some rows.
            others: other rows.
        """
        first_with = {int(sums[other]): other for other in reversed(others)}
        candidates = [(row, other) for row in rows if (other := first_with.get(int(sums[row]), row)) != row]
        return [(row, other) for row, other in candidates if self.content(row) == self.content(other)]


def _follow_each_other(entries: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether images lie in one archive, one after the other, with no more than headers between them."""
    if len({entry.get("archive") for entry in entries}) > 1 or "archive" not in entries[0]:
        return False
    ends = [entry["offset"] + entry["size"] for entry in entries]
    gaps = (entry["offset"] - end for entry, end in zip(entries[1:], ends, strict=False))
    return all(0 <= gap <= _HEADER_BYTES for gap in gaps) and 0 < ends[-1] - entries[0]["offset"] <= MAX_FILE_BYTES


def _read_part(path: Path, size: int, offset: int) -> bytes:
    """Return some bytes of a file, or fewer if it ends before; raise a DataError if it cannot be read."""
    try:
        with path.open("rb", buffering=0) as stream:
            return os.pread(stream.fileno(), size, offset)
    except (OSError, OverflowError) as err:
        raise DataError(f"{path}: {reason(err) if isinstance(err, OSError) else err}") from err
