"""Your own event recordings, in class folders or listed in a table: .aedat, .bin, .csv, .dat, .h5, .npy, .npz, .raw."""

from __future__ import annotations

import functools
import logging
from pathlib import Path

from pydantic import Field, field_validator

from spikedistill.components import Section
from spikedistill.data.formats.archives import Member
from spikedistill.data.formats.files import explained
from spikedistill.data.formats.recordings.columns import How, Polarity, TimeUnit
from spikedistill.data.formats.recordings.detect import Facts, facts_of
from spikedistill.data.formats.recordings.kinds import KINDS, FormatName, decode
from spikedistill.data.meta import DatasetMeta
from spikedistill.data.prepare import inventory, own_files, splits
from spikedistill.data.prepare.frames import FrameParams, Recording, whole_files
from spikedistill.data.prepare.index import write_index
from spikedistill.data.prepare.own_files import Listing
from spikedistill.data.prepare.recordings.write import write_frames
from spikedistill.errors import DataError

log = logging.getLogger(__name__)

NEEDS_RAW = True


class Sensor(Section):
    """Size of the sensor."""

    height: int = Field(ge=1, le=4096, description="Rows of the sensor.")
    width: int = Field(ge=1, le=4096, description="Columns of the sensor.")


class Params(own_files.OwnFilesParams, FrameParams):
    """What the files do not say, and how the events become frames. What is not given is found in the folder, and reported."""

    format: FormatName | None = Field(None, description="Format of the recordings. Default: the only one that is there.")
    sensor: Sensor | None = Field(
        None, description="Size of the sensor, as in {height: 260, width: 346}. Default: as a recording says."
    )
    time_unit: TimeUnit | None = Field(
        None, description="Unit of the timestamps. Default: as the format or a recording says, or the only one that is plausible."
    )
    polarity: Polarity | None = Field(None, description="Values of OFF and ON events. Default: as in a recording.")
    columns: str | None = Field(None, description="Order of the columns in tables without names, such as txyp.")
    inside: str | None = Field(
        None, description="Place of the events in .h5 files, where it is none of events, CD/events and the top."
    )

    @field_validator("columns")
    @classmethod
    def _each_once(cls, value: str | None) -> str | None:
        if value is not None and sorted(value) != sorted("txyp"):
            raise ValueError("the letters t, x, y and p, each once, in the order of the columns")
        return value


def describe(params: Params) -> DatasetMeta:
    """Return classes and shape of the dataset, which are stated or were found by `scan`."""
    if params.classes is None or params.sensor is None:
        raise DataError("event-folder: classes and sensor are not known: state them, or name the folder (dataset.root)")
    return inventory.describe(params, params.classes, (params.sensor.height, params.sensor.width))


def scan(params: Params, raw: Path) -> Params:
    """Return the parameters, those not stated taken from the folder; one recording of medium size is read for this.

    Raises:
        DataError: naming what is wrong with the folder, or what has to be stated.
    """
    known = (params.classes, params.content, params.format, params.sensor, params.time_unit, params.polarity)
    if all(known) and (params.parts or params.split):
        return params
    listing, kind = _listing(raw, params)
    found = own_files.found_in(listing, params)
    if not (params.sensor and params.time_unit and params.polarity):
        sample = sorted(listing.files, key=lambda file: (file.size, file.path))[len(listing.files) // 2]
        facts = facts_of(Member(str(raw / sample.path)), kind, _how(params))
        found |= {"sensor": _sensor(facts, sample.path), "time_unit": facts.time_unit, "polarity": facts.polarity}
    return params.model_copy(update={**found, "format": kind})


def summary(params: Params) -> str:
    """Return what was stated or found, in one line."""
    sensor = f"sensor {params.sensor.width} x {params.sensor.height}" if params.sensor else ""
    return f"{own_files.described(params)}, {params.format}, {sensor}, time in {params.time_unit}, polarity {params.polarity}"


@explained
def prepare(params: Params, *, raw: Path | None, out: Path, work: Path, num_workers: int) -> None:
    """Decode and integrate the recordings in `raw`, which is not changed.

    Raises:
        DataError: naming everything that is damaged, foreign, or has changed since the plan.
    """
    assert raw is not None
    params = scan(params, raw)
    log.info("%s: %s", raw, summary(params))
    listing, kind = _listing(raw, params)
    class_names, lists = own_files.checked(listing, params)
    split_of = {listing.files[n].path: split for split, members in lists.items() for n in members}
    recordings = [
        Recording(Member(str(raw / file.path)), file.path, label)
        for file, label in zip(listing.files, listing.labels(class_names), strict=True)
    ]
    recordings.sort(key=lambda recording: (recording.label, inventory.natural_key(recording.id)))
    decoder = whole_files(functools.partial(decode, kind=kind, how=_how(params)))
    assert params.sensor is not None
    sensor = (params.sensor.height, params.sensor.width)
    rows = write_frames(recordings, decoder, params, out, sensor=sensor, num_workers=num_workers, work=work)
    row_lists = {split: [n for n, each in enumerate(rows.recordings) if split_of[each.id] == split] for split in lists}
    splits.check_twins(rows, row_lists, strict=params.strict)
    recipe = {"dataset": "event-folder", **params.model_dump(mode="json")}
    write_index(out, kind="frames", class_names=class_names, rows=rows, splits=row_lists, recipe=recipe)


def _how(params: Params) -> How:
    height, width = (params.sensor.height, params.sensor.width) if params.sensor else (None, None)
    return How(height, width, params.time_unit, params.polarity, params.columns, params.inside, params.truncated)


def _sensor(facts: Facts, path: str) -> Sensor:
    height, width = facts.sensor
    if not (1 <= height <= 4096 and 1 <= width <= 4096):
        raise DataError(
            f"{path}: says that the sensor has {width} x {height} pixels, expected 1 to 4096; damaged, or state sensor"
        )
    return Sensor(height=height, width=width)


def _listing(raw: Path, params: Params) -> tuple[Listing, FormatName]:
    """Return what is in the folder, and the format of its recordings."""
    suffixes = KINDS[params.format].suffixes if params.format else tuple(s for kind in KINDS.values() for s in kind.suffixes)
    listing = own_files.find(raw, params, suffixes)
    kinds = {
        name: [file.path for file in listing.files if file.path.lower().endswith(kind.suffixes)] for name, kind in KINDS.items()
    }
    there = [name for name, files in kinds.items() if files]
    if len(there) > 1:
        found = "; ".join(f"{name}: {len(kinds[name])}, such as {kinds[name][0]}" for name in there)
        raise DataError(
            f"{raw}: recordings of more than one format ({found}); state one with dataset.params.format, and pass over the "
            "others with dataset.params.ignore"
        )
    return listing, there[0]
