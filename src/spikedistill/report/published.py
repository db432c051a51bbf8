"""Figures that others published for a method, shown beside ours and never mixed with what was measured. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class PublishedResult:
    """One published accuracy."""

    method: str
    """Name of the method as a component."""
    dataset: str
    arch: str
    """As the source names it; "not stated" where it does not."""
    time_steps: int | None
    accuracy: float
    """Top-1 on the test split, in percent."""
    source: str
    """Where the number comes from, and how far it can be trusted."""


def published(dataset: str, methods: frozenset[str]) -> tuple[PublishedResult, ...]:
    """What was published on a dataset for any of some methods.

    Args:
        dataset: name of the dataset as a component.
        methods: names of the methods as components.
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
