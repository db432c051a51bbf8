"""Experiments that are variants of one number: what a figure against that number needs. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from spikedistill.report.records import RunRecord


@dataclass(frozen=True)
class SweptNumber:
    """An experiment with a list of numbers for a key.

    Attributes:
        experiment: label of the experiment, without values.
        key: the swept key, or the keys that are walked together through the same numbers, as the labels name them.
        variants: label of each variant -> its number, rising.
    """

    experiment: str
    key: str
    variants: dict[str, float]


def swept_numbers(records: Sequence[RunRecord]) -> list[SweptNumber]:
    """Return the experiments that have at least two variants, all of which differ in one number alone."""
    labels = dict.fromkeys(run.experiment for run in records)
    families: dict[str, list[str]] = {}
    for label in labels:
        families.setdefault(label.partition("[")[0], []).append(label)
    return [found for name, variants in families.items() if (found := _swept_number(name, variants)) is not None]


def _swept_number(experiment: str, labels: Sequence[str]) -> SweptNumber | None:
    parsed = {label: _key_and_number(label) for label in labels}
    known = {label: found for label, found in parsed.items() if found is not None}
    keys = {key for key, _ in known.values()}
    if len(labels) < 2 or len(known) < len(labels) or len(keys) != 1:
        return None
    numbers = sorted(((number, label) for label, (_, number) in known.items()))
    return SweptNumber(experiment, keys.pop(), {label: number for number, label in numbers})


def _key_and_number(label: str) -> tuple[str, float] | None:
    """Return key and number in the label of a variant, such as `digits[time_steps=4]`; None if it has no single number."""
    suffix = label.partition("[")[2].removesuffix("]")
    pairs = [part.partition("=") for part in suffix.split(",")]
    try:
        numbers = {float(value) for _, _, value in pairs}
    except ValueError:
        return None
    number = numbers.pop()
    return (", ".join(key for key, _, _ in pairs), number) if not numbers and math.isfinite(number) else None
