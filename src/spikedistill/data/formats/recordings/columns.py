"""Events as columns of numbers, whatever file they come from: what a file says about them, checks, and their cells. Numpy only.

N is the number of events.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.events import CellEvents, Truncated
from spikedistill.errors import DataError

TimeUnit = Literal["s", "ms", "us", "ns"]
Polarity = Literal["0/1", "-1/1", "1/0", "1/-1"]
PER_SECOND: dict[TimeUnit, int] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
ALIASES = {
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "x": ("x", "xs", "col", "column"),
    "y": ("y", "ys", "row"),
    "p": ("p", "ps", "pol", "pols", "polarity", "polarities", "on"),
}
MAX_SIDE = 1 << 14  # of a sensor, in pixels
_MAX_US = 1 << 60
_EXACT = 1 << 53  # above this, a float cannot represent odd numbers


class How(NamedTuple):
    """What is known of recordings beyond what their files say; None: not known.

    Attributes:
        height: rows of the sensor.
        width: columns of the sensor.
        time_unit: of the timestamps.
        polarity: values of OFF and ON events.
        columns: letters t, x, y and p in the order of the columns of a table without names.
        inside: path of the events inside an HDF5 file.
        truncated: whether a file that ends inside an event is an error, or loses that event.
    """

    height: int | None = None
    width: int | None = None
    time_unit: TimeUnit | None = None
    polarity: Polarity | None = None
    columns: str | None = None
    inside: str | None = None
    truncated: Truncated = "error"


class Table(NamedTuple):
    """The events of one file as stored, and what the file says about them.

    Attributes:
        t: timestamps [N].
        x: columns of the sensor [N].
        y: rows of the sensor [N].
        p: polarities [N].
        time_unit: where the file says it.
        sensor: rows and columns, where the file says them.
        polarity: values of OFF and ON, where the format defines them.
        dropped: events that were left out: without a time yet, or incomplete.
    """

    t: npt.NDArray[Any]
    x: npt.NDArray[Any]
    y: npt.NDArray[Any]
    p: npt.NDArray[Any]
    time_unit: TimeUnit | None = None
    sensor: tuple[int, int] | None = None
    polarity: Polarity | None = None
    dropped: int = 0


def table_of(columns: Mapping[str, Any], time_unit: TimeUnit | None = None, sensor: tuple[int, int] | None = None) -> Table:
    """Return columns by letter as a table."""
    return Table(columns["t"], columns["x"], columns["y"], columns["p"], time_unit, sensor)


def named(names: Mapping[str, Any] | tuple[str, ...]) -> tuple[dict[str, str], TimeUnit | None] | None:
    """Return the names of t, x, y and p among some names, and the time unit that the name of t has, such as `t_us` or `t [ms]`.

    Returns:
        None if one of the four is missing, or two names fit one.
    """
    found: dict[str, list[tuple[str, TimeUnit | None]]] = {letter: [] for letter in ALIASES}
    for name in names:
        plain, unit = _without_unit(name.strip().lower())
        for letter, aliases in ALIASES.items():
            if plain in aliases and (unit is None or letter == "t"):
                found[letter].append((name, unit))
    if any(len(fitting) != 1 for fitting in found.values()):
        return None
    return {letter: fitting[0][0] for letter, fitting in found.items()}, found["t"][0][1]


def _without_unit(name: str) -> tuple[str, TimeUnit | None]:
    plain = name.replace("µs", "us").replace("μs", "us")
    for unit in ("ms", "us", "ns", "s"):
        for ending in (f"_{unit}", f" {unit}", f"[{unit}]", f"({unit})"):
            if plain.endswith(ending) and plain != ending:
                return plain[: -len(ending)].strip(), unit
    return name, None


def of_columns(array: npt.NDArray[Any], name: str, columns: str | None) -> Table:
    """Return the events of a table without names, [N, 4].

    Raises:
        DataError: if it has another shape, or `columns` does not say what is in them.
    """
    if array.ndim != 2 or array.shape[1] != 4:
        raise DataError(
            f"{name}: expected events as a table [N, 4], found {array.dtype} of shape {list(array.shape)}; another file?"
        )
    if columns is None:
        raise DataError(
            f"{name}: a table of four columns without names; state their order in dataset.params, for instance columns: txyp"
        )
    return table_of({letter: array[:, at] for at, letter in enumerate(columns)})


def of_fields(array: npt.NDArray[Any], name: str) -> Table:
    """Return the events of a structured array [N].

    Raises:
        DataError: if its fields are not t, x, y and p under one of their usual names.
    """
    fields = array.dtype.names or ()
    known = named(fields)
    if known is None or array.ndim != 1:
        raise DataError(
            f"{name}: expected fields t, x, y and p, found {', '.join(fields)} of shape {list(array.shape)}; {RENAME}"
        )
    return table_of({letter: array[field] for letter, field in known[0].items()}, known[1])


RENAME = "rename them to t, x, y and p"


def cells(table: Table, name: str, how: How) -> CellEvents:
    """Return events as cells, with timestamps in microseconds; nanoseconds are rounded down.

    Args:
        table: the events.
        name: of the file, for messages.
        how: sensor, time unit and polarity, which must be known.

    Raises:
        DataError: if a column is not numbers of the same length, an event lies outside of the sensor, or a polarity or a
            timestamp is impossible.
    """
    assert how.height and how.width and how.time_unit and how.polarity
    lengths = [np.shape(column) for column in table[:4]]
    if len(set(lengths)) > 1 or len(lengths[0]) != 1:
        raise DataError(f"{name}: t, x, y and p have the shapes {', '.join(str(list(each)) for each in lengths)}; damaged?")
    x, y = (_whole(column, name, what) for column, what in ((table.x, "x"), (table.y, "y")))
    _check_inside(x, y, name, how.height, how.width)
    p = _is_on(np.asarray(table.p), name, how.polarity)
    cell = (x.astype(np.int32) * how.height + y.astype(np.int32)) * 2 + p
    return CellEvents(_microseconds(np.asarray(table.t), name, how.time_unit), cell, how.height, how.width, dropped=table.dropped)


def _check_inside(x: npt.NDArray[Any], y: npt.NDArray[Any], name: str, height: int, width: int) -> None:
    if not x.size or (0 <= x.min() <= x.max() < width and 0 <= y.min() <= y.max() < height):
        return
    outside = np.flatnonzero((x < 0) | (x >= width) | (y < 0) | (y >= height))
    at = int(outside[0])
    raise DataError(
        f"{name}: {outside.size} events lie outside the {width} x {height} sensor, the first is event {at} at x={x[at]}, "
        f"y={y[at]}; damaged, or of another sensor: see dataset.params.sensor"
    )


def _numbers(column: Any, name: str, what: str) -> npt.NDArray[Any]:
    array = np.asarray(column)
    if array.dtype.kind not in "uifb" or array.dtype.itemsize > 8:
        raise DataError(f"{name}: {what} is {array.dtype}, expected numbers; another file?")
    return array


def _whole(column: Any, name: str, what: str) -> npt.NDArray[Any]:
    """Return a column of whole numbers as integers."""
    array = _numbers(column, name, what)
    if array.dtype.kind != "f":
        return array
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(array) <= MAX_SIDE) | (np.floor(array) != array)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise DataError(f"{name}: {what} of event {at} is {array[at]}, expected a whole number of pixels")
    return array.astype(np.int32)


def _is_on(column: npt.NDArray[Any], name: str, polarity: Polarity) -> npt.NDArray[np.bool_]:
    array = _numbers(column, name, "p")
    off, on = (int(value) for value in polarity.split("/"))
    found = array == on
    wrong = ~(found | (array == off))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise DataError(
            f"{name}: polarity of event {at} is {array[at]}, expected {off} for OFF or {on} for ON (polarity: {polarity}); "
            "damaged, or state dataset.params.polarity"
        )
    return found


def _microseconds(column: npt.NDArray[Any], name: str, unit: TimeUnit) -> npt.NDArray[np.int64]:
    array = _numbers(column, name, "t")
    scale = 10**6 / PER_SECOND[unit]
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(array.astype(np.float64)) * scale < _MAX_US)
        if array.dtype.kind == "f" and not wrong.any():
            wrong = np.abs(array) >= _EXACT
    if wrong.any():
        at = int(np.argmax(wrong))
        raise DataError(f"{name}: the timestamp of event {at} is {array[at]} {unit}, which no recording has; damaged?")
    if array.dtype.kind == "f":
        return (
            np.rint(array.astype(np.float64) * scale).astype(np.int64)
            if unit != "ns"
            else np.floor(array / 1000).astype(np.int64)
        )
    whole = array.astype(np.int64)
    return whole // 1000 if unit == "ns" else whole * int(scale)


def found_polarity(table: Table, name: str) -> Polarity:
    """Return the values of OFF and ON in a recording; ON is always 1, and without an OFF event it counts as 0/1.

    Raises:
        DataError: if there are other values, or both kinds of OFF.
    """
    values = np.unique(_numbers(table.p, name, "p")).astype(np.float64).tolist()
    if set(values) <= {0.0, 1.0}:
        return "0/1"
    if set(values) <= {-1.0, 1.0}:
        return "-1/1"
    told = ", ".join(f"{value:g}" for value in values[:5])
    raise DataError(
        f"{name}: polarities {told}{', …' if len(values) > 5 else ''}, expected 0 and 1, or -1 and 1; are the columns as stated?"
    )
