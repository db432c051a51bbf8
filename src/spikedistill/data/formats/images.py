"""Image files, decoded by Pillow, cropped and resized as torchvision does with Pillow images. Pillow is imported on first use.

Letters: N sample, S side.
"""

from __future__ import annotations

import io
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.archives import check_free_space
from spikedistill.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger(__name__)

INDEX = "files.json"
_PER_TASK = 64
_MAX_NAMED = 50  # bad images in one message
_PROGRESS_S = 30.0


class ImageFiles:
    """The samples of a dataset that stays in the user's files, in place of the array that other datasets have.

    Attributes:
        shape: (N, 3, S, S), as if each image were its middle square, with the shorter side resized to S.
        dtype: uint8.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, root: Path, rows: Sequence[Mapping[str, Any]], side: int) -> None:
        """Use files below a folder.

        Args:
            root: the folder.
            rows: rows of an index with "id", the path below the folder; for an image in a tar archive also with "archive", the
                archive's path below the folder, and "offset" and "size" of the image in it, in bytes.
            side: S in pixels.
        """
        self._root, self._rows = root, rows
        self.shape = (len(rows), 3, side, side)

    @classmethod
    def open(cls, folder: Path, rows: Sequence[Mapping[str, Any]]) -> ImageFiles:
        """Open the images of a prepared dataset, which `save` noted there.

        Raises:
            DataError: if the folder of the images no longer exists.
        """
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        root = Path(index["root"])
        if not root.is_dir():
            raise DataError(
                f"{folder}: its images are read from {root}, which does not exist. Put the folder back, or prepare the data "
                f"again from its new place: remove {folder}, set dataset.root, run snakemake"
            )
        return cls(root, rows, int(index["side"]))

    @staticmethod
    def save(folder: Path, root: Path, side: int) -> None:
        """Note the folder of the images in a prepared dataset."""
        notes = {"root": str(root.resolve()), "side": side}
        (folder / INDEX).write_text(json.dumps(notes, indent=1) + "\n", encoding="utf-8")

    def __len__(self) -> int:
        """Return N."""
        return len(self._rows)

    def read(self, row: int) -> Image.Image:
        """Decode one image.

        Raises:
            DataError: if it cannot be read or decoded.
        """
        entry = self._rows[row]
        if "archive" not in entry:
            return read_image(self._root / entry["id"])
        path = self._root / entry["archive"]
        try:
            with path.open("rb", buffering=0) as stream:
                content = os.pread(stream.fileno(), entry["size"], entry["offset"])
        except OSError as err:
            raise DataError(f"{path}: {err.strerror or err}") from err
        return read_image(path / entry["id"], content)

    def square(self, row: int) -> npt.NDArray[np.uint8]:
        """Return the middle square of one image, [3, S, S]."""
        return middle_square(self.read(row), self.shape[-1])

    def visit(self, use: Callable[[int, Image.Image], None], *, num_workers: int) -> None:
        """Decode every image once.

        Args:
            use: called with the number and the image of each row, in several threads.
            num_workers: number of threads; Pillow releases the GIL.

        Raises:
            DataError: naming the images that cannot be decoded, after all were tried.
        """

        def visit_some(first: int) -> list[str]:
            problems = []
            for row in range(first, min(first + _PER_TASK, len(self))):
                try:
                    use(row, self.read(row))
                except DataError as err:
                    problems.append(str(err))
            return problems

        bad: list[str] = []
        reported = time.monotonic()
        with ThreadPoolExecutor(num_workers) as pool:
            for number, problems in enumerate(pool.map(visit_some, range(0, len(self), _PER_TASK)), 1):
                bad += problems
                if time.monotonic() - reported > _PROGRESS_S:
                    reported = time.monotonic()
                    log.info("%d of %d images decoded", number * _PER_TASK, len(self))
        if bad:
            more = f"\n  and {len(bad) - _MAX_NAMED} more" if len(bad) > _MAX_NAMED else ""
            raise DataError(f"{len(bad)} of {len(self)} images cannot be used:\n  " + "\n  ".join(bad[:_MAX_NAMED]) + more)

    def write_array(self, path: Path, *, num_workers: int) -> None:
        """Write the middle squares of all images as one array, uint8 [N, 3, S, S].

        Raises:
            DataError: naming the images that cannot be decoded; or if the disk lacks space.
        """
        check_free_space(path.parent, int(np.prod(self.shape)), "images")
        array = np.lib.format.open_memmap(path, mode="w+", dtype=self.dtype, shape=self.shape)

        def write(row: int, image: Image.Image) -> None:
            array[row] = middle_square(image, self.shape[-1])

        self.visit(write, num_workers=num_workers)
        array.flush()


def read_image(path: Path, content: bytes | None = None) -> Image.Image:
    """Decode an image to RGB.

    Args:
        path: the file; for an image in an archive, its name in messages.
        content: the bytes of an image in an archive.

    Raises:
        DataError: if it cannot be decoded.
    """
    from PIL import Image

    try:
        with Image.open(path if content is None else io.BytesIO(content)) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as err:
        raise DataError(f"{path}: not an image that can be decoded ({err})") from err


def middle_square(image: Image.Image, side: int) -> npt.NDArray[np.uint8]:
    """Resize the shorter side to `side` pixels, antialiased, and crop the middle square.

    Its centre crop to fewer pixels equals that of torchvision's `Resize(side)` followed by `CenterCrop`.

    Returns:
        uint8 [3, side, side].
    """
    from PIL import Image

    width, height = image.size
    shorter = min(width, height)
    size = (int(side * width / shorter), int(side * height / shorter))
    if size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (round((length - side) / 2) for length in size)
    return to_array(image.crop((left, top, left + side, top + side)))


def box_resized(image: Image.Image, box: npt.NDArray[np.int64], side: int) -> npt.NDArray[np.uint8]:
    """Crop a box (top, left, height, width) of an image and resize it, antialiased.

    Returns:
        uint8 [3, side, side].
    """
    from PIL import Image

    top, left, height, width = (int(value) for value in box)
    region = image.crop((left, top, left + width, top + height))
    return to_array(region.resize((side, side), Image.Resampling.BILINEAR))


def to_array(image: Image.Image) -> npt.NDArray[Any]:
    """Return an RGB image as [3, H, W]."""
    return np.asarray(image).transpose(2, 0, 1)
