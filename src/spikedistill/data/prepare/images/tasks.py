"""What can be done with the images of a dataset, by name, so that every rank of a job can do its part. Numpy only.

array      the values of all as one array
verified   each is decoded once, and nothing is written
packed     their bytes in a few large files, as they are or made smaller
points     the entry points of JPEG, in a few large files
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from pydantic import Field

from spikedistill.components import Section
from spikedistill.data.formats.decoding import pillow, resample, turbo
from spikedistill.data.formats.images import ImageFiles
from spikedistill.data.formats.pictures import Fit, Pictures
from spikedistill.data.prepare.blocks.packs import NoTarget, PackTarget
from spikedistill.data.prepare.blocks.target import ArrayTarget, Target
from spikedistill.data.prepare.images.work import ImageWork
from spikedistill.errors import DataError

Task = Literal["array", "verified", "packed", "points"]
ARRAY = "images.npy"
PACKED, POINTS = "packed", "entry_points"  # folders
LARGEST_FILE = 2048  # images of a packed file
LEAST_PER_FILE = 16
EncodedConvert = Callable[[int, bytes], bytes]
_FILES = 64  # files of a dataset, unless they would be too large or too small
_LOOKED_AT = 48  # images from which the total size is estimated


class Shrink(Section):
    """Images become smaller JPEG files."""

    side: int = Field(ge=1, description="Shorter side in pixels; images that are not larger stay as they are.")
    quality: int = Field(90, ge=1, le=100, description="Quality of the JPEG, as Pillow counts it.")


def files_of(root: Path, rows: Sequence[Mapping[str, Any]], how: Mapping[str, Any]) -> ImageFiles:
    """Return the images below a folder that are decoded as another object's `how` says."""
    return Pictures(root, rows, Fit(*how["fit"])) if "fit" in how else ImageFiles(root, rows, how["square"])


def make(task: Task, files: ImageFiles, folder: Path, options: Mapping[str, Any]) -> tuple[ImageWork, Target]:
    """Return what a task does, and what it writes to.

    Args:
        task: its name.
        files: the images.
        folder: to write to.
        options: further settings, in JSON: for packed, those of `packing`; for points, `verify`, whether images are decoded to
            find damaged ones; otherwise none.
    """
    if task == "packed":
        return _packing(files, folder / PACKED, **options)
    if task == "points":
        convert = _with(_finding().found, _copying(files, **options))
        recipe = {**options, **files.how}
        work = ImageWork(files, convert, "images searched for entry points", recipe, _bounds_of_files(len(files)))
        return work, PackTarget(folder / POINTS, lambda: _needed(files, convert), "entry points")
    if task == "array":
        if not isinstance(files, Pictures):
            _load_decoders()
        work = ImageWork(files, files.values, "images decoded", {"shape": list(files.shape), "how": files.how})
        return work, ArrayTarget(folder / ARRAY, files.dtype, files.shape, "images")

    def decode(row: int, content: bytes) -> bytes:
        files.decoded(row, content)
        return b""

    return ImageWork(files, decode, "images decoded", {"verify": files.how}), NoTarget()


def _load_decoders() -> None:
    """Compile the decoders, and compare them with Pillow, here, so that processes forked later need not each do it."""
    turbo.same_as_pillow()
    resample.compiled()


def packing(shrink: Shrink | None, *, verify: bool, random_access: bool) -> dict[str, Any]:
    """Return the options of the task packed.

    Args:
        shrink: how images are made smaller; None: they are copied.
        verify: whether copied ones are decoded, to find damaged ones.
        random_access: whether entry points are added to JPEG, so that parts of them can be decoded.
    """
    return {"shrink": shrink.model_dump() if shrink else None, "verify": verify, "random_access": random_access}


def _packing(
    files: ImageFiles, folder: Path, shrink: dict[str, int] | None, *, verify: bool, random_access: bool
) -> tuple[ImageWork, PackTarget]:
    convert = _shrinking(files, **shrink) if shrink else _copying(files, verify=verify)
    if random_access:
        convert = _with(_finding().added, convert)
    recipe = {"shrink": shrink, "verify": verify, "random_access": random_access, **files.how}
    work = ImageWork(files, convert, "images packed", recipe, _bounds_of_files(len(files)))
    return work, PackTarget(folder, lambda: _needed(files, convert), "images")


def _bounds_of_files(number: int) -> list[int]:
    """Return the first row of each file, and the number of rows; a small dataset has some dozens of files, too."""
    size = min(LARGEST_FILE, max(LEAST_PER_FILE, -(-number // _FILES)))
    return [*range(0, number, size), number]


def _finding() -> ModuleType:
    """Return the module that finds entry points; its functions are compiled here, before processes fork."""
    from PIL import Image

    try:
        from spikedistill.data.formats.decoding import finding
    except ImportError as err:
        said = "finding entry points needs Numba: pip install 'spikedistill[images]', or leave random_access out"
        raise DataError(f"dataset.params.random_access: {said}") from err
    stream = io.BytesIO()
    Image.new("RGB", (16, 16)).save(stream, "JPEG")
    finding.found(stream.getvalue())
    return finding


def _with(last: Callable[[bytes], bytes], first: EncodedConvert) -> EncodedConvert:
    """Return a conversion by two functions, one after the other."""
    return lambda row, content: last(first(row, content))


def _copying(files: ImageFiles, *, verify: bool) -> EncodedConvert:
    def copied(row: int, content: bytes) -> bytes:
        if verify:
            files.decoded(row, content)
        return content

    return copied


def _shrinking(files: ImageFiles, side: int, quality: int) -> EncodedConvert:
    from PIL import Image

    def shrunk(row: int, content: bytes) -> bytes:
        image = files.decoded(row, content)
        if min(image.size) <= side:
            return content
        stream = io.BytesIO()
        image.resize(pillow.covering(*image.size, side), Image.Resampling.BILINEAR).save(stream, "JPEG", quality=quality)
        return stream.getvalue()

    return shrunk


def _needed(files: ImageFiles, convert: EncodedConvert) -> int:
    """Return about how many bytes will be written, from some images spread over all."""
    sizes = []
    for row in range(0, len(files), -(-len(files) // _LOOKED_AT)):
        try:
            sizes.append(len(convert(row, files.content(row))))
        except DataError:
            continue  # it is reported when all are tried
    return len(files) * sum(sizes) // len(sizes) if sizes else 0
