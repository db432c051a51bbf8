"""The event datasets of SpikingJelly, as its source code has them: found without importing it, which would import torch."""

from __future__ import annotations

import ast
import functools
from typing import NamedTuple

from spikedistill.lazy import package_folder

BASE = "NeuromorphicDatasetFolder"


class Found(NamedTuple):
    """A class of `spikingjelly.datasets`: rows and columns of its sensor, and whether it has a split of its own."""

    size: tuple[int, int]
    has_split: bool


def names() -> tuple[str, ...]:
    """Return the sorted names of the datasets whose frames have a known size."""
    return tuple(sorted(name for name in _classes() if find_class(name) is not None))


def find_class(name: str) -> Found | None:
    """Return what the source says of a dataset, or None if it is not an event dataset with frames of rows and columns."""
    lineage = list(_lineage(name))
    if not lineage or BASE not in _bases(lineage[-1]):
        return None
    size = next((found for each in lineage if (found := _size(each)) is not None), None)
    starts = [method for each in lineage if (method := _method(each, "__init__")) is not None]
    has_split = bool(starts) and any(argument.arg == "train" for argument in starts[0].args.args)
    return Found(size, has_split) if size is not None else None


@functools.cache
def _classes() -> dict[str, ast.ClassDef]:
    package = package_folder("spikingjelly")
    files = sorted((package / "datasets").glob("*.py")) if package else []
    trees = (ast.parse(file.read_text(encoding="utf-8")) for file in files)
    return {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}


def _bases(node: ast.ClassDef) -> list[str]:
    return [base.id for base in node.bases if isinstance(base, ast.Name)]


def _lineage(name: str) -> list[ast.ClassDef]:
    """Return a class and those that it inherits from, up to the common base."""
    found: list[ast.ClassDef] = []
    while name in _classes() and name != BASE and _classes()[name] not in found:
        found.append(_classes()[name])
        name = next(iter(_bases(found[-1])), "")
    return found


def _method(node: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    return next((each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == name), None)


def _size(node: ast.ClassDef) -> tuple[int, int] | None:
    method = _method(node, "get_H_W")
    returned = next((each for each in ast.walk(method) if isinstance(each, ast.Return)), None) if method else None
    if returned is None or returned.value is None:
        return None
    try:
        height, width = ast.literal_eval(returned.value)
    except (ValueError, TypeError):
        return None
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None
