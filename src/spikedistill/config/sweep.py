"""Turn lists in the configuration into runs: one variant per combination of the listed values. Imports no torch.

A list is swept where the key takes a plain value; a key that takes a list by its type keeps it. A variant is labelled with its
values, such as `kd[alpha=0.3]`, so that the rows of the report can be told apart.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from spikedistill import components
from spikedistill.components import unknown
from spikedistill.errors import ConfigError

Path = tuple[str, ...]


@dataclass(frozen=True)
class Variant:
    """One combination of the values of all swept keys.

    Attributes:
        suffix: what distinguishes it from its siblings, such as `[alpha=0.3,lr=0.1]`; empty when nothing is swept.
        values: swept key -> its value here.
    """

    suffix: str
    values: dict[Path, Any]


class SweepError(ValueError):
    """A list that cannot be swept.

    Attributes:
        path: the key, relative to the section that is expanded.
    """

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the annotation itself if it is none."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model of the section that a key holds, if it holds one."""
    return next((m for m in _alternatives(annotation) if isinstance(m, type) and issubclass(m, BaseModel)), None)


def takes_plain_values(annotation: Any) -> bool:
    """Return True if a key takes a single value, so that a list is a sweep: its type is no list, mapping or section."""
    if annotation is Any or model_of(annotation):
        return False
    members = _alternatives(annotation)
    if len(members) > 1:
        return all(takes_plain_values(member) for member in members)
    kind = get_origin(annotation) or annotation
    return not (isinstance(kind, type) and issubclass(kind, Sequence | Mapping | set | frozenset) and kind is not str)


def swept(values: Mapping[str, Any], model: type[BaseModel], prefix: Path = ()) -> Iterator[tuple[Path, list[Any]]]:
    """Yield the keys of a section and of its sections that hold a list where a single value belongs."""
    for key, value in values.items():
        field = model.model_fields.get(key)
        if field is None:
            continue
        section = model_of(field.annotation)
        if section and isinstance(value, Mapping):
            yield from swept(value, section, (*prefix, key))
            if issubclass(section, components.Choice):
                name = value.get("name", section.model_fields["name"].default)
                yield from swept_params(section.KIND, name, value.get("params"), (*prefix, key, "params"))
        elif isinstance(value, list) and takes_plain_values(field.annotation):
            yield (*prefix, key), value


def swept_params(kind: components.Kind, name: Any, params: Any, prefix: Path) -> Iterator[tuple[Path, list[Any]]]:
    """Yield the parameters of a component that hold a list where a single value belongs; none if it cannot be used."""
    if not isinstance(name, str) or not isinstance(params, Mapping):
        return
    try:
        model = components.load(kind, name).Params
    except ConfigError:  # the check of components tells what is wrong
        return
    yield from swept(params, model, prefix)


def variants(lists: Mapping[Path, list[Any]], together: Sequence[Sequence[str]]) -> list[Variant]:
    """Return every combination of the listed values; the last key varies fastest.

    Args:
        lists: swept key -> its values.
        together: groups of keys, dotted, whose lists are walked in step instead of crossed.

    Raises:
        SweepError: naming the key: an empty list, a value twice, not a plain value, a group that does not fit, too many.
    """
    for path, values in lists.items():
        _check_list(path, values)
    groups = _groups(lists, together)
    names = _short_names([path for path in lists if len(lists[path]) > 1])
    steps = [[dict(zip(group, row, strict=True)) for row in zip(*(lists[p] for p in group), strict=True)] for group in groups]
    found = []
    for combination in itertools.product(*steps):
        chosen = {path: value for step in combination for path, value in step.items()}
        told = ",".join(f"{names[path]}={_text(chosen[path])}" for path in lists if path in names)
        found.append(Variant(f"[{told}]" if told else "", chosen))
    return found


def count(lists: Mapping[Path, list[Any]], together: Sequence[Sequence[str]]) -> int:
    """Return the number of combinations without making them; keys that do not fit together count as crossed."""
    try:
        groups = _groups(lists, together)
    except SweepError:
        groups = [[path] for path in lists]
    return math.prod(len(lists[group[0]]) for group in groups)


def replaced(values: Mapping[str, Any], changes: Mapping[Path, Any]) -> dict[str, Any]:
    """Return a copy of a nested mapping with the values at some paths replaced; everything else is shared."""
    copy = dict(values)
    for path, value in changes.items():
        place = copy
        for part in path[:-1]:
            place[part] = dict(place[part])
            place = place[part]
        place[path[-1]] = value
    return copy


def _check_list(path: Path, values: list[Any]) -> None:
    if not values:
        raise SweepError(path, "an empty list sweeps over nothing; give at least one value")
    for value in values:
        if isinstance(value, Mapping | list):
            raise SweepError(path, f"a sweep is a list of plain values; found {value!r} in it")
    if len({_comparable(value) for value in values}) != len(values):
        raise SweepError(path, f"each value of a sweep may appear once; found {values!r}")


def _comparable(value: Any) -> tuple[str, Any]:
    """Return what two spellings of one value have in common: 0.5 and "0.5" are one, true and 1 are not."""
    if not isinstance(value, bool) and isinstance(value, int | float | str):
        try:
            return "number", float(value)
        except (ValueError, OverflowError):
            return "text", str(value)
    return type(value).__name__, value


def _groups(lists: Mapping[Path, list[Any]], together: Sequence[Sequence[str]]) -> list[list[Path]]:
    """Return groups of keys that vary together, in the order of the keys; a key on its own is a group of one."""
    group_of: dict[Path, list[Path]] = {}
    for names in together:
        paths = [tuple(name.split(".")) for name in names]
        for path in paths:
            if path not in lists:
                raise SweepError(("together",), unknown("swept key", ".".join(path), map(".".join, lists)))
            if path in group_of:
                raise SweepError(("together",), f"{'.'.join(path)!r} appears there twice")
            group_of[path] = paths
        lengths = {".".join(path): len(lists[path]) for path in paths}
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{name}: {length}" for name, length in lengths.items())
            raise SweepError(("together",), f"keys that are walked together need lists of equal length; found {found}")
    groups = [group_of.get(path, [path]) for path in lists]
    return [group for i, group in enumerate(groups) if group not in groups[:i]]


def _short_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the shortest endings that distinguish the keys, such as `lr` or `teacher.train.lr`."""
    names = {}
    for path in paths:
        others = [other for other in paths if other != path]
        length = next((n for n in range(1, len(path)) if all(other[-n:] != path[-n:] for other in others)), len(path))
        names[path] = ".".join(path[-length:])
    return names


def _text(value: Any) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
