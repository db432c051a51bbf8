"""Images as files: decoded by Pillow, cropped and resized as torchvision does with Pillow images. Importing this needs no Pillow.

Letters: N sample, S side.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spikedistill.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

INDEX = "files.json"


class ImageFiles:
    """The samples of a dataset that stays in the user's files; stands where other datasets have their array.

    Attributes:
        shape: (N, 3, S, S), as if each image were the square in its middle, its shorter side resized to S.
        dtype: uint8.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, root: Path, names: Sequence[str], side: int) -> None:
        """Use the files `names` below `root`; S is `side`."""
        self._root, self._names = root, names
        self.shape = (len(names), 3, side, side)

    @classmethod
    def open(cls, folder: Path, names: Sequence[str]) -> ImageFiles:
        """What `save` wrote into a prepared dataset.

        Raises:
            DataError: if the folder of the images is not there any more.
        """
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        root = Path(index["root"])
        if not root.is_dir():
            raise DataError(
                f"{folder}: its images are read from {root}, which is not there. Put the folder back, or prepare the data "
                f"again from where it is now: remove {folder}, set dataset.root, run snakemake"
            )
        return cls(root, names, int(index["side"]))

    @staticmethod
    def save(folder: Path, root: Path, side: int) -> None:
        """Note in a prepared dataset where its images are."""
        notes = {"root": str(root.resolve()), "side": side}
        (folder / INDEX).write_text(json.dumps(notes, indent=1) + "\n", encoding="utf-8")

    def __len__(self) -> int:
        """N."""
        return len(self._names)

    def read(self, row: int) -> Image.Image:
        """One image, decoded.

        Raises:
            DataError: if it cannot be.
        """
        return read_image(self._root / self._names[row])

    def square(self, row: int) -> npt.NDArray[np.uint8]:
        """The square in the middle of one image, [3, S, S]."""
        return middle_square(self.read(row), self.shape[-1])


def read_image(path: Path) -> Image.Image:
    """Decode an image file to RGB.

    Raises:
        DataError: if it cannot be decoded.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as err:
        raise DataError(f"{path}: not an image that can be decoded: {err}") from err


def middle_square(image: Image.Image, side: int) -> npt.NDArray[np.uint8]:
    """Resize the shorter side to `side` pixels, antialiased, and take the square in the middle.

    A square of fewer pixels cut out of the middle of this one is that of torchvision's `Resize(side)` and `CenterCrop`.

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
    """A box (top, left, height, width) of an image, resized, antialiased.

    Returns:
        uint8 [3, side, side].
    """
    from PIL import Image

    top, left, height, width = (int(value) for value in box)
    region = image.crop((left, top, left + width, top + height))
    return to_array(region.resize((side, side), Image.Resampling.BILINEAR))


def to_array(image: Image.Image) -> npt.NDArray[Any]:
    """[H, W, 3] of Pillow as [3, H, W]."""
    return np.asarray(image).transpose(2, 0, 1)
