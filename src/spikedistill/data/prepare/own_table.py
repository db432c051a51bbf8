"""A table of users' own samples: a CSV file with the columns path, label and perhaps split. Standard library only."""

from __future__ import annotations

import csv
import io
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from spikedistill.data.formats.files import is_there, read_text
from spikedistill.errors import DataError

COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "filepath", "image"),
    "label": ("label", "class", "class_name", "category"),
    "split": ("split", "part", "set", "subset"),
}
_MAX_NAMED = 20
_MAX_HEADING = 4096


class Entry(NamedTuple):
    """One line: path below the root, name of the class, and what the column split has, empty if there is none."""

    path: str
    label: str
    split: str


def find(root: Path, stated: str | None) -> Path | None:
    """Return the table of a folder, or None if it has none.

    Raises:
        DataError: if the stated one is missing, or there are several and none is stated.
    """
    if stated is not None:
        if not _is_below(stated) or not (root / stated).is_file():
            raise DataError(f"{root / stated}: no such file below root; see dataset.params.table")
        return root / stated
    found = sorted(path for path in root.iterdir() if path.suffix.lower() == ".csv" and path.is_file() and _has_heading(path))
    if len(found) > 1:
        raise DataError(
            f"{root}: {', '.join(path.name for path in found)} are tables of paths and labels; state one, for instance "
            f"dataset.params.table: {found[0].name}"
        )
    return found[0] if found else None


def _is_below(path: str) -> bool:
    pure = PurePosixPath(path)
    return bool(path) and not pure.is_absolute() and ".." not in pure.parts and "\0" not in path


def _has_heading(path: Path) -> bool:
    with path.open("rb") as stream:
        first = stream.readline(_MAX_HEADING).decode("utf-8-sig", "replace")
    return {"path", "label"} <= _columns(_first_line(first)).keys()


def _first_line(text: str) -> str:
    """Return the first line of a table, which may end in a lone carriage return, as old spreadsheets write it."""
    return io.StringIO(text, newline="").readline()


def _dialect(heading: str) -> type[csv.Dialect]:
    delimiter_ = next((each for each in ",;\t" if each in heading), ",")

    class Dialect(csv.excel):
        delimiter = delimiter_

    return Dialect


def _columns(heading: str) -> dict[str, list[str]]:
    """Return which columns could have what, by their names; nothing if the line cannot be parsed."""
    names = _names(heading)
    found = {what: [what] if what in names else [name for name in names if name in aliases] for what, aliases in COLUMNS.items()}
    return {what: columns for what, columns in found.items() if columns}


def _names(heading: str) -> list[str]:
    try:
        return [field.strip().lower() for field in next(csv.reader([heading], dialect=_dialect(heading)), [])]
    except csv.Error:
        return []


def _places(path: Path, heading: str) -> dict[str, int]:
    """Return which column of a table has what.

    Raises:
        DataError: if several columns could have the same.
    """
    names, columns = _names(heading), _columns(heading)
    for what, candidates in columns.items():
        if sum(names.count(name) for name in candidates) > 1:
            raise DataError(f"{path}: {', '.join(candidates)} could each be the column {what}; call the right one {what!r}")
    return {what: names.index(candidates[0]) for what, candidates in columns.items()}


def read(path: Path, root: Path) -> list[Entry]:
    """Return the lines of a table.

    Raises:
        DataError: naming every line that cannot be used: no path or label, or a path that is repeated, outside root or missing.
    """
    text = read_text(path)
    heading = _first_line(text)
    places = _places(path, heading)
    if not {"path", "label"} <= places.keys():
        raise DataError(f"{path}: line 1 must name the columns path, label and perhaps split; found {heading.rstrip()[:80]!r}")
    entries: list[Entry] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    try:
        lines = csv.reader(io.StringIO(text, newline=""), dialect=_dialect(heading), strict=True)
        next(lines)
        for fields in lines:
            if not any(field.strip() for field in fields):
                continue
            entry, number = _entry(fields, places, root), lines.line_num
            if isinstance(entry, str):
                problems.append(f"line {number}: {entry}")
            elif (first := seen.setdefault(entry.path, number)) != number:
                problems.append(f"line {number}: {entry.path[:80]} is in line {first}, too")
            else:
                entries.append(entry)
    except csv.Error as err:
        problems.append(f"line {lines.line_num}: {err}")
    if problems:
        more = f"\n  and {len(problems) - _MAX_NAMED} more" if len(problems) > _MAX_NAMED else ""
        raise DataError(f"{path}: {len(problems)} lines cannot be used:\n  " + "\n  ".join(problems[:_MAX_NAMED]) + more)
    return entries


def _entry(fields: list[str], places: dict[str, int], root: Path) -> Entry | str:
    """Return what a line says, or what is wrong with it."""
    values = {what: fields[at].strip() if at < len(fields) else "" for what, at in places.items()}
    entry = Entry(values["path"], values["label"], values.get("split", ""))
    if not entry.path or not entry.label or ("split" in places and not entry.split):
        return f"expected {', '.join(places)}; found {', '.join(fields)[:80]!r}"
    if not _is_below(entry.path):
        return f"{entry.path[:80]!r} leads out of root; give paths below it"
    if not is_there(root / entry.path):
        return f"no file {entry.path[:80]}"
    return entry._replace(path=str(PurePosixPath(entry.path)))
