"""Sweeps as grids of their swept keys: what a heat map or parallel coordinates of them need. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from spikedistill.report.sections.ranking import Sweep, Variant

METHOD = "method"
"""Stands for the methods, where they are one of the axes."""


@dataclass(frozen=True)
class Grid:
    """Accuracies on the validation split by the values of swept keys.

    Attributes:
        subject: what was swept: the experiment, and the method if the grid is of one.
        axes: the swept keys -> their values in order; keys that are walked together are one. At least two.
        accuracy: a value of each axis -> mean accuracy over seeds, in [0, 1]; combinations without one are missing.
    """

    subject: str
    axes: dict[str, tuple[str, ...]]
    accuracy: dict[tuple[str, ...], float]

    @property
    def best(self) -> tuple[str, ...]:
        """The values of the best accuracy, the first of equals."""
        return max(self.accuracy, key=lambda values: self.accuracy[values])


Points = dict[tuple[str, ...], float]


def grids(sweeps: Sequence[Sweep]) -> list[Grid]:
    """Return a grid for each sweep over several keys, and one for each experiment whose methods are swept over one key."""
    found: list[Grid] = []
    single: dict[tuple[str, str], Points] = {}
    for sweep in sweeps:
        experiment, _, method = sweep.name.rpartition(" ")
        keys, points = _points(sweep.ranked)
        if len(keys) > 1 and len(points) > 1:
            found.append(_grid(f"{experiment}, {method}", keys, points))
        elif len(keys) == 1:
            of_methods = single.setdefault((experiment, keys[0]), {})
            of_methods |= {(method, *values): accuracy for values, accuracy in points.items()}
    found += [_grid(experiment, (METHOD, key), points) for (experiment, key), points in single.items() if len(points) > 1]
    return found


def _points(variants: Sequence[Variant]) -> tuple[tuple[str, ...], Points]:
    """Return the keys of a sweep, and the mean accuracy of each variant by its values."""
    told = [variant.settings for variant in variants]
    keys = list(dict.fromkeys(key for values in told for key in values))
    groups = _walked_together(keys, told)
    names = tuple(", ".join(group) for group in groups)
    values = [tuple(_value([each.get(key, "") for key in group]) for group in groups) for each in told]
    return names, {each: variant.mean for each, variant in zip(values, variants, strict=True)}


def _walked_together(keys: Sequence[str], told: Sequence[dict[str, str]]) -> list[list[str]]:
    """Group the keys whose values determine each other in all variants."""
    groups: list[list[str]] = []
    for key in keys:
        column = [values.get(key) for values in told]
        for group in groups:
            other = [values.get(group[0]) for values in told]
            if len(set(column)) == len(set(other)) == len(set(zip(column, other, strict=True))) > 1:
                group.append(key)
                break
        else:
            groups.append([key])
    return groups


def _value(values: Sequence[str]) -> str:
    return values[0] if len(set(values)) == 1 else ", ".join(values)


def _grid(subject: str, keys: Sequence[str], points: Points) -> Grid:
    return Grid(subject, {key: _in_order([values[i] for values in points]) for i, key in enumerate(keys)}, points)


def _in_order(values: Sequence[str]) -> tuple[str, ...]:
    """Return the different values, numbers by size, others as they first appear."""
    distinct = list(dict.fromkeys(values))
    try:
        numbers = {value: float(value) for value in distinct}
    except ValueError:
        return tuple(distinct)
    if any(math.isnan(number) for number in numbers.values()):
        return tuple(distinct)
    return tuple(sorted(distinct, key=lambda value: numbers[value]))
