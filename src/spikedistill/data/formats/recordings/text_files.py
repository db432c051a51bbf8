"""Events as text: one event per line, with or without a heading, separated by commas, semicolons, tabs or spaces.

Comments begin with # or %. Prophesee's `%geometry:WIDTH,HEIGHT` and a first line of two numbers, width and height, as the
Robotics and Perception Group's files have it, say the size of the sensor.
"""

from __future__ import annotations

import codecs
import io
import re
from typing import NamedTuple

import numpy as np

from spikedistill.data.formats.recordings.columns import How, Table, TimeUnit, named, of_columns
from spikedistill.errors import DataError

_GEOMETRY = re.compile(r"[#%]\s*geometry\s*[:=]?\s*(\d{1,5})\s*[,x ]\s*(\d{1,5})\s*")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_SEPARATORS = re.compile(r"[,;\s]+")
_MAX_LINE = 4096
_FLOATS = re.compile(rb"[.eE]")


class _Top(NamedTuple):
    """What stands above the events of a text file: its lines and bytes, columns and unit that a heading names, the sensor."""

    lines: int = 0
    length: int = 0
    columns: str | None = None
    time_unit: TimeUnit | None = None
    sensor: tuple[int, int] | None = None


def read_text_events(content: bytes, name: str, how: How) -> Table:
    """Read events from text.

    Raises:
        DataError: if it is not text, a line does not have four numbers, or nothing says what is in the columns; names the line.
    """
    content = content.removeprefix(codecs.BOM_UTF8)
    top = _top(content, name)
    values = _values(content[top.length :], name, top.lines)
    table = of_columns(values, name, top.columns or how.columns)
    return table._replace(time_unit=top.time_unit, sensor=top.sensor)


def _top(content: bytes, name: str) -> _Top:
    """Read headings, comments and the size of the sensor above the first event."""
    top, stream = _Top(), io.BytesIO(content)
    while line := stream.readline(_MAX_LINE):
        try:
            text = codecs.utf_8_decode(line, "strict", len(line) < _MAX_LINE)[0].strip()
        except UnicodeDecodeError as err:
            raise DataError(f"{name}: not text: line {top.lines + 1} has byte 0x{line[err.start]:02x}; another format?") from err
        fields = [field for field in _SEPARATORS.split(text.lstrip("#%").strip()) if field]
        is_comment = text[:1] in ("#", "%")
        if is_comment and not line.endswith(b"\n"):
            stream.readline()
        numbers = all(_NUMBER.fullmatch(field) for field in fields)
        if match := _GEOMETRY.fullmatch(text):
            top = top._replace(sensor=(int(match[2]), int(match[1])))
        elif fields and not is_comment and numbers:
            if top.lines or len(fields) != 2 or not all(field.isdigit() for field in fields):
                return top
            top = top._replace(sensor=(int(fields[1][:5]), int(fields[0][:5])))
        elif fields:
            top = _with_heading(top, text, name, is_comment=is_comment)
        top = top._replace(lines=top.lines + 1, length=stream.tell())
    return top


def _with_heading(top: _Top, text: str, name: str, *, is_comment: bool) -> _Top:
    """Take the names of columns from a line that is no event."""
    separator = next((each for each in (",", ";", "\t") if each in text), None)
    names = tuple(field.strip().strip('"') for field in text.lstrip("#%").strip().split(separator))
    known = named(names)
    if known is None or len(names) != 4:
        if is_comment:
            return top
        raise DataError(f"{name}: line {top.lines + 1} is neither four numbers nor a heading with t, x, y and p: {text[:80]!r}")
    by_name = {column: letter for letter, column in known[0].items()}
    return top._replace(columns="".join(by_name[column] for column in names), time_unit=known[1])


def _values(body: bytes, name: str, above: int) -> np.ndarray:
    """Parse the lines of events as numbers, [N, 4]: integers if all are."""
    if not body.strip():
        return np.empty((0, 4), np.int64)
    dtype = np.float64 if _FLOATS.search(body) else np.int64
    if b";" in body or b"," in body:
        body = body.replace(b";", b" ").replace(b",", b" ")
    try:
        with np.errstate(all="ignore"):
            return np.loadtxt(io.BytesIO(body), dtype=dtype, comments=["#", "%"], ndmin=2, encoding="ascii")
    except (ValueError, OverflowError, TypeError) as err:
        said = str(err).replace("\n", " ")[:200]
        raise DataError(f"{name}: not four numbers in each line ({said}; lines count from line {above + 1} of the file)") from err
