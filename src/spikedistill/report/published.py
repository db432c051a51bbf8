"""Accuracies that others published for a method, shown beside measured ones and never mixed with them. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class PublishedResult:
    """One published accuracy.

    Attributes:
        method: component name of the method.
        dataset: component name of the dataset.
        arch: architecture as the source names it, or "not stated".
        time_steps: time steps T; None if not stated.
        accuracy: top-1 accuracy on the test split, in percent.
        source: where the number comes from, and how reliable it is.
    """

    method: str
    dataset: str
    arch: str
    time_steps: int | None
    accuracy: float
    source: str


def find_published(dataset: str, methods: frozenset[str]) -> tuple[PublishedResult, ...]:
    """Return the published results of some methods on a dataset.

    Args:
        dataset: component name of the dataset.
        methods: component names of the methods.
    """
    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    found = []
    for entry in content["accuracies"]:
        if entry["dataset"] == dataset and entry["method"] in methods:
            source = content["sources"][entry["source"]]
            note = f"; {entry['note']}" if "note" in entry else ""
            found.append(
                PublishedResult(
                    entry["method"],
                    dataset,
                    entry.get("arch", "not stated"),
                    entry.get("time_steps"),
                    entry["accuracy"],
                    source + note,
                )
            )
    return tuple(found)
