"""Your own images, in class folders or listed in a table: JPEG, PNG, TIFF, BMP, WebP, GIF, PPM."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from spikedistill.data.formats.files import explained
from spikedistill.data.formats.pictures import SUFFIXES, Channels, Fit, Pictures, Shape, shape_of
from spikedistill.data.meta import DatasetMeta
from spikedistill.data.prepare import inventory, own_files, splits
from spikedistill.data.prepare.images.write import write_array
from spikedistill.data.prepare.index import write_index
from spikedistill.data.prepare.own_files import Listing
from spikedistill.errors import DataError

log = logging.getLogger(__name__)

NEEDS_RAW = True
LOOKED_AT = 100  # headers that are read to find the shape


class Params(own_files.OwnFilesParams):
    """The shape of the images. What is not given is found in the folder, and reported."""

    side: int | None = Field(
        None,
        ge=1,
        le=8192,
        description="Resize the shorter side of every image to so many pixels, antialiased, and keep the middle square. Needed "
        "if the images differ in size.",
    )
    height: int | None = Field(
        None, ge=1, le=8192, description="Rows that every image must have, without side. Default: as found."
    )
    width: int | None = Field(None, ge=1, le=8192, description="Columns, likewise.")
    channels: Channels | None = Field(
        None,
        description="1: grey, 3: colours; images of the other kind are converted. Default: 1 if all images looked at are grey.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.height is None) != (self.width is None):
            raise ValueError("height and width are stated together")
        if self.side is not None and self.height is not None and not self.height == self.width == self.side:
            raise ValueError("side makes squares: state either side, or height and width")
        return self


def describe(params: Params) -> DatasetMeta:
    """Return classes and shape of the dataset, which are stated or were found by `scan`."""
    if params.classes is None or params.height is None or params.width is None or params.channels is None:
        raise DataError("image-folder: classes and size are not known: state them, or name the folder (dataset.root)")
    return DatasetMeta("images", params.classes, channels=params.channels, height=params.height, width=params.width)


def scan(params: Params, raw: Path) -> Params:
    """Return the parameters, those not stated taken from the folder; the headers of up to 100 images are read for this.

    Raises:
        DataError: naming what is wrong with the folder, or what has to be stated.
    """
    if params.side is not None:
        params = params.model_copy(update={"height": params.side, "width": params.side})
    if all((params.classes, params.content, params.height, params.channels)) and (params.parts or params.split):
        return params
    listing = _listing(raw, params)
    found = own_files.found_in(listing, params)
    if not (params.height and params.channels):
        found |= _shape(raw, listing, params)
    return params.model_copy(update=found)


def summary(params: Params) -> str:
    """Return what was stated or found, in one line."""
    how = "resized and cropped to" if params.side else "each of"
    kind = "grey" if params.channels == 1 else "colours"
    return f"{own_files.described(params)}, {how} {params.width} x {params.height} pixels, {kind}"


@explained
def prepare(params: Params, *, raw: Path | None, out: Path, work: Path, num_workers: int) -> None:
    """Decode the images in `raw`, which is not changed, and write them as one array.

    Raises:
        DataError: naming everything that is damaged, foreign, or has changed since the plan.
    """
    assert raw is not None
    params = scan(params, raw)
    log.info("%s: %s", raw, summary(params))
    listing = _listing(raw, params)
    class_names, lists = own_files.checked(listing, params)
    labels = listing.labels(class_names)
    rows = [{"id": file.path, "label": label} for file, label in zip(listing.files, labels, strict=True)]
    assert params.height and params.width and params.channels
    images = Pictures(raw, rows, Fit(params.height, params.width, params.channels, crop=params.side is not None))
    sums = write_array(images, out, work=work, num_workers=num_workers)
    _check_twins(images, sums, rows, lists, strict=params.strict)
    recipe = {"dataset": "image-folder", **params.model_dump(mode="json")}
    write_index(out, kind="images", class_names=class_names, rows=rows, splits=lists, recipe=recipe)


def _listing(raw: Path, params: Params) -> Listing:
    return own_files.find(raw, params, SUFFIXES)


def _shape(raw: Path, listing: Listing, params: Params) -> dict[str, object]:
    """Return height, width and channels, from the headers of images that are spread over the whole folder."""
    step = -(-len(listing.files) // LOOKED_AT)
    looked = {file.path: shape_of(raw / file.path) for file in listing.files[::step]}
    grey = all(shape.channels == 1 for shape in looked.values())
    found: dict[str, object] = {"channels": params.channels or (1 if grey else 3)}
    if params.height is None:
        first, shape = next(iter(looked.items()))
        other = next((path for path, each in looked.items() if each[:2] != shape[:2]), None)
        if other is not None:
            raise DataError(
                f"{raw}: images differ in size: {first} has {_size(shape)} pixels, {other} has {_size(looked[other])}. State "
                "the side of the squares that they are resized and cropped to, for instance dataset.params.side: 64"
            )
        found |= {"height": shape.height, "width": shape.width}
    return found


def _size(shape: Shape) -> str:
    return f"{shape.width} x {shape.height}"


def _check_twins(
    images: Pictures,
    sums: npt.NDArray[np.uint64],
    rows: Sequence[Mapping[str, Any]],
    lists: Mapping[str, Sequence[int]],
    *,
    strict: bool,
) -> None:
    """Check that no file is there twice, under two labels or in both splits."""
    everything = range(len(rows))
    pairs = images.twins(sums, everything, everything)
    differing = [f"{rows[row]['id']} = {rows[other]['id']}" for row, other in pairs if rows[row]["label"] != rows[other]["label"]]
    if lines := inventory.summarize("images have copies under another label", differing):
        raise DataError(f"{lines[0]}; one of the two was copied to the wrong place")
    both = images.twins(sums, lists["test"], lists["train"])
    splits.tell_twins([(rows[row]["id"], rows[other]["id"]) for row, other in both], "images", strict=strict)
