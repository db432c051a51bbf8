"""Events in HDF5 files in their usual layouts, read by h5py; links that lead out of the file are not followed.

Layouts: a group (`events`, or the file itself) with one dataset per column, as DSEC and most tools write it; a compound dataset
`events` or `CD/events`, as Prophesee's tools do; a table [N, 4]. Anything else is named by `inside`.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.archives import MAX_RECORDING_BYTES
from spikedistill.data.formats.files import in_units
from spikedistill.data.formats.recordings.columns import PER_SECOND, How, Table, TimeUnit, named, of_columns, of_fields, table_of
from spikedistill.data.formats.recordings.guarded import guarded
from spikedistill.errors import DataError

PLACES = ("events", "CD/events", "")
_GEOMETRY = re.compile(r"(\d{1,5})x(\d{1,5})")
_INSTALL = "pip install 'spikedistill[events]'"


def read_h5(content: bytes, name: str, how: How) -> Table:
    """Read the events of an HDF5 file.

    Raises:
        DataError: if it is damaged, has its events behind a link out of the file, is packed by a filter that is not installed,
            or has no events in a known layout.
    """
    try:
        import h5py  # noqa: F401 - before the fork, not for each file
    except ImportError as err:
        raise DataError(f"{name}: reading HDF5 needs h5py; {_INSTALL}") from err
    with contextlib.suppress(ImportError):
        import hdf5plugin  # noqa: F401 - importing it registers further filters

    return guarded(lambda: _read(content, name, how), name, len(content))


def _read(content: bytes, name: str, how: How) -> Table:
    import h5py

    with _damages_told(name), h5py.File(io.BytesIO(content), "r") as file:
        place, found = _find(file, name, how.inside)
        sensor = _sensor([file, found])
        if isinstance(found, h5py.Dataset):
            array = _values(found, name, place)
            table = of_fields(array, name) if array.dtype.names else of_columns(array, name, how.columns)
            unit = _unit([found, file])
        else:
            known = named(tuple(found))
            assert known is not None
            columns = {letter: _child(found, key, name) for letter, key in known[0].items()}
            table = table_of({letter: _values(column, name, f"{place}/{letter}") for letter, column in columns.items()}, known[1])
            unit = _unit([columns["t"], found, file])
        return table._replace(time_unit=table.time_unit or unit, sensor=sensor)


@contextlib.contextmanager
def _damages_told(name: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as err:  # damaged bytes can make the library raise anything
        said = str(err).replace("\n", " ")[:200] or type(err).__name__
        advice = f"; for its filter, {_INSTALL}" if "filter" in said.lower() or "plugin" in said.lower() else ""
        raise DataError(f"{name}: not an HDF5 file that can be read ({said}){advice}") from err


def _find(file: Any, name: str, inside: str | None) -> tuple[str, Any]:
    """Return the place of the events, and the group or dataset there."""
    import h5py

    for place in PLACES if inside is None else (inside.strip("/"),):
        found = _at(file, place, name, required=inside is not None)
        if isinstance(found, h5py.Dataset) or (isinstance(found, h5py.Group) and named(tuple(found)) is not None):
            return place, found
    top = ", ".join(list(file)[:10])
    looked = f"at {inside}" if inside is not None else "at events, CD/events or the top"
    raise DataError(
        f"{name}: no events {looked} (datasets t, x, y and p, or one table); at the top: {top}. State dataset.params.inside"
    )


def _at(file: Any, place: str, name: str, *, required: bool) -> Any:
    found = file
    for part in filter(None, place.split("/")):
        if not hasattr(found, "keys") or part not in found:
            if required:
                raise DataError(f"{name}: nothing at {place}; see dataset.params.inside")
            return None
        found = _child(found, part, name)
    return found


def _child(group: Any, key: str, name: str) -> Any:
    """Return a member of a group, unless it is a link to somewhere else."""
    import h5py

    if not isinstance(group.get(key, getlink=True), h5py.HardLink):
        raise DataError(f"{name}: {group.name.rstrip('/')}/{key} is a link, which is not followed; copy the events into the file")
    return group[key]


def _values(dataset: Any, name: str, place: str) -> npt.NDArray[Any]:
    import h5py

    if not isinstance(dataset, h5py.Dataset):
        raise DataError(f"{name}: {place} is no dataset")
    if dataset.is_virtual or dataset.external:
        raise DataError(f"{name}: {place} lies in other files, which are not read; copy it into this one")
    if dataset.dtype.hasobject or dataset.shape is None:
        raise DataError(f"{name}: {place} is {dataset.dtype}, expected numbers")
    size = max(math.prod(shape) for shape in (dataset.shape, dataset.chunks or ())) * dataset.dtype.itemsize
    if size > MAX_RECORDING_BYTES:
        raise DataError(f"{name}: {place} unpacks to {in_units(size)}; a recording has at most {in_units(MAX_RECORDING_BYTES)}")
    return np.asarray(dataset[()])


def _unit(places: list[Any]) -> TimeUnit | None:
    """Return the time unit that attributes of some places say, the nearest first."""
    for place in places:
        for key in ("unit", "units", "time_unit"):
            value = _text(place.attrs.get(key)).lower().replace("µ", "u").replace("μ", "u")
            value = {"microseconds": "us", "milliseconds": "ms", "seconds": "s", "nanoseconds": "ns"}.get(value, value)
            if value in PER_SECOND:
                return value  # type: ignore[return-value]
    return None


def _sensor(places: list[Any]) -> tuple[int, int] | None:
    """Return rows and columns that attributes of some places say."""
    for place in places:
        attributes = place.attrs
        if match := _GEOMETRY.fullmatch(_text(attributes.get("geometry"))):
            return int(match[2]), int(match[1])
        sides = [attributes.get("height"), attributes.get("width")]
        if all(side is not None for side in sides):
            return int(np.asarray(sides[0]).reshape(())), int(np.asarray(sides[1]).reshape(()))
        both = np.asarray(attributes.get("sensor_resolution", ())).reshape(-1)
        if both.size == 2 and both.dtype.kind in "ui":
            return int(both[0]), int(both[1])
    return None


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
