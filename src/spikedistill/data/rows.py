"""The rows of the index of a large dataset as columns, which are memory-mapped. Numpy only.

So a million rows are opened without reading them, and the processes of a node share their memory:

rows/<key>.npy          integer: int64 [N]
rows/<key>.text         text: the UTF-8 of all rows, one after the other
rows/<key>.ends.npy     where that of each row ends: int64 [N]

A key that some rows lack, or whose values are of other types, is kept as text in JSON, empty where a row lacks it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from spikedistill.data.formats.arrays import open_array
from spikedistill.data.formats.files import reason
from spikedistill.errors import DataError

FOLDER = "rows"
LARGE = 20_000
"""Number of rows from which they are columns; fewer are in index.json, where people can read them."""
Kind = Literal["integer", "text", "json"]
_KINDS = ("integer", "text", "json")


def write_columns(folder: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Write rows as columns below the folder of a prepared dataset; return the entry "rows" of its index."""
    (folder / FOLDER).mkdir()
    keys = list(dict.fromkeys(key for row in rows for key in row))
    columns = {key: _write_column(folder / FOLDER, key, [row.get(key) for row in rows]) for key in keys}
    return {"number": len(rows), "columns": columns}


def _write_column(folder: Path, key: str, values: list[Any]) -> Kind:
    kinds = {type(value) for value in values}
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in (min(values), max(values))):
        np.save(folder / f"{key}.npy", np.array(values, dtype=np.int64))
        return "integer"
    kind: Kind = "text" if kinds == {str} else "json"
    texts = values if kind == "text" else ["" if value is None else json.dumps(value) for value in values]
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]  # names of files may be of any bytes
    (folder / f"{key}.text").write_bytes(b"".join(encoded))
    np.save(folder / f"{key}.ends.npy", np.cumsum([len(text) for text in encoded], dtype=np.int64))
    return kind


class Rows(Sequence[Mapping[str, Any]]):
    """Rows in columns, as a sequence of mappings; each is read from the files when it is asked for."""

    def __init__(self, folder: Path, entry: Any) -> None:
        """Open the columns of a prepared dataset.

        Args:
            folder: of the dataset.
            entry: what `write_columns` returned.

        Raises:
            DataError: if they are missing, damaged, or do not fit each other.
        """
        match entry:
            case {"number": int(number), "columns": {"label": "integer"} as columns} if number > 0:
                kinds: dict[str, str] = columns
            case _:
                raise DataError(f"rows: expected their number and their columns, found {str(entry)[:80]!r}")
        if wrong := [key for key, kind in kinds.items() if not key.isidentifier() or kind not in _KINDS]:
            raise DataError(f"rows: not a column: {wrong[0][:80]!r}")
        self._number, self._folder = number, folder / FOLDER
        self._integer = {key: self._integers(f"{key}.npy") for key, kind in kinds.items() if kind == "integer"}
        self._text = {
            key: (self._integers(f"{key}.ends.npy"), self._bytes(key)) for key, kind in kinds.items() if kind != "integer"
        }
        self._in_json = {key for key, kind in kinds.items() if kind == "json"}
        self._keys = tuple(kinds)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class of each row, int64 [N]."""
        return self._integer["label"]

    def _integers(self, name: str) -> npt.NDArray[np.int64]:
        found = open_array(self._folder / name)
        if found.dtype != np.int64 or found.shape != (self._number,):
            raise DataError(f"{FOLDER}/{name}: {found.dtype} {list(found.shape)}, expected int64 [{self._number}]")
        return found

    def _bytes(self, key: str) -> npt.NDArray[np.uint8]:
        path = self._folder / f"{key}.text"
        try:
            return np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else np.zeros(0, dtype=np.uint8)
        except OSError as err:
            raise DataError(f"{path}: {reason(err)}") from err

    def __len__(self) -> int:
        """Return N."""
        return self._number

    @overload
    def __getitem__(self, row: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[Mapping[str, Any]]: ...
    def __getitem__(self, row: int | slice) -> Mapping[str, Any] | Sequence[Mapping[str, Any]]:
        """Return one row, or several.

        Raises:
            DataError: if it is damaged.
        """
        if isinstance(row, slice):
            return [self[each] for each in range(*row.indices(self._number))]
        if not -self._number <= row < self._number:
            raise IndexError(row)
        return {key: value for key in self._keys if (value := self._value(key, row % self._number)) is not None}

    def _value(self, key: str, row: int) -> Any:
        if key in self._integer:
            return int(self._integer[key][row])
        ends, content = self._text[key]
        start = int(ends[row - 1]) if row else 0
        try:
            text = content[start : int(ends[row])].tobytes().decode("utf-8", "surrogatepass")
            return (json.loads(text) if text else None) if key in self._in_json else text
        except ValueError as err:
            raise DataError(f"{self._folder / key}.text: row {row} is damaged ({err}); run the preprocess stage again") from err
