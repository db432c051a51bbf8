"""What one recording shows about all of them: size of the sensor, time unit, polarity. What it does not show must be stated."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np

from spikedistill.data.formats.archives import Member
from spikedistill.data.formats.events import EMPTY, CellEvents
from spikedistill.data.formats.recordings.columns import PER_SECOND, How, Polarity, Table, TimeUnit, found_polarity
from spikedistill.data.formats.recordings.kinds import KINDS, FormatName
from spikedistill.errors import DataError

log = logging.getLogger(__name__)

PLAUSIBLE_S = (0.01, 1000.0)
"""Durations of a recording of one sample, in seconds."""
PLAUSIBLE_RATE = (100.0, 1e8)
"""Events per second of an event camera."""


class Facts(NamedTuple):
    """What one recording says, or what was stated: rows and columns of the sensor, unit of time, values of OFF and ON."""

    sensor: tuple[int, int]
    time_unit: TimeUnit
    polarity: Polarity


def facts_of(file: Member, kind: FormatName, how: How) -> Facts:
    """Return the facts of a recording; what is stated takes precedence over what it says.

    Raises:
        DataError: if it is damaged, or does not say something that is not stated.
    """
    name, content = str(file), file.read()
    if not content:
        raise DataError(f"{name}: an empty file; get it again")
    found = KINDS[kind].read(content, name, how)
    if isinstance(found, CellEvents):
        return Facts(_stated(how) or (found.height, found.width), how.time_unit or "us", how.polarity or "0/1")
    sensor = _stated(how) or found.sensor
    if sensor is None:
        raise DataError(
            f"{name}: does not say how large the sensor is{_extent(found)}; state it, as in sensor: {{height: 260, width: 346}}"
        )
    unit = how.time_unit or found.time_unit or plausible_unit(found, name)
    return Facts(sensor, unit, how.polarity or found.polarity or found_polarity(found, name))


def _stated(how: How) -> tuple[int, int] | None:
    return (how.height, how.width) if how.height and how.width else None


def _extent(table: Table) -> str:
    x, y = np.asarray(table.x), np.asarray(table.y)
    if not x.size or not y.size or x.dtype.kind not in "uif" or y.dtype.kind not in "uif":
        return ""
    return f" (its events go up to x={x.max():g}, y={y.max():g})"


def plausible_unit(table: Table, name: str) -> TimeUnit:
    """Return the only time unit in which a recording has a plausible duration and rate of events.

    Raises:
        DataError: if there is none, or more than one.
    """
    t = np.asarray(table.t)
    if not t.size or t.dtype.kind not in "uif":
        raise DataError(f"{name}: {EMPTY if not t.size else f'timestamps are {t.dtype}'}; state dataset.params.time_unit")
    span = float(t.max()) - float(t.min())
    fractions = t.dtype.kind == "f" and bool((np.floor(t) != t).any())
    told, fitting = [], []
    for unit, per_second in PER_SECOND.items():
        duration = span / per_second
        rate = t.size / duration if duration > 0 else float("inf")
        told.append(f"{duration:g} s if in {unit}")
        possible = unit != "ns" if fractions else unit != "s"
        if possible and PLAUSIBLE_S[0] <= duration <= PLAUSIBLE_S[1] and PLAUSIBLE_RATE[0] <= rate <= PLAUSIBLE_RATE[1]:
            fitting.append(unit)
    if len(fitting) != 1:
        which = f"{' and '.join(fitting)} are plausible" if fitting else "none is plausible"
        raise DataError(
            f"{name}: nothing says the unit of its timestamps, and {which}: {t.size} events last {', '.join(told)}; state "
            "dataset.params.time_unit: s, ms, us or ns"
        )
    log.info(
        "%s: timestamps count as %s: %d events last %s, and only that is plausible", name, fitting[0], t.size, "; ".join(told)
    )
    return fitting[0]
