"""What the report is made from: one record per trained and evaluated network. Imports no torch."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

TEACHER = "teacher"


@dataclass(frozen=True)
class RunRecord:
    """One teacher or student of a comparison, with what was measured on it."""

    experiment: str
    dataset: str
    role: Literal["teacher", "student"]
    method: str
    """Label of the method in the configuration; "teacher" for a teacher."""
    arch: str
    time_steps: int | None
    """Time steps T of a student; None for a teacher."""
    seed: int
    artifact: str
    """Name of the trained network in the store."""
    evaluation: dict[str, Any] | None
    """Content of evaluation.json; None when there is none: the run failed or has not ended."""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    """Records of metrics.jsonl, one per epoch."""
    manifest: dict[str, Any] = field(default_factory=dict)


class Group(NamedTuple):
    """The runs of one method in one experiment: equal but for the seed."""

    experiment: str
    method: str
    runs: tuple[RunRecord, ...]

    @property
    def is_teacher(self) -> bool:
        """Whether these are the experiment's teachers."""
        return self.runs[0].role == "teacher"


@dataclass(frozen=True)
class Spread:
    """Mean over seeds and the sample standard deviation (n - 1) around it; no deviation for a single value."""

    mean: float
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """The spread of some values; None when there are none."""
        if not values:
            return None
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)

    def __mul__(self, factor: float) -> Spread:
        return Spread(self.mean * factor, None if self.std is None else self.std * factor)

    def format(self, digits: int) -> str:
        """`mean ± std` with that many decimals, or the mean alone."""
        return f"{self.mean:.{digits}f}" + ("" if self.std is None else f" ± {self.std:.{digits}f}")


def group_records(records: Iterable[RunRecord]) -> list[Group]:
    """Group by experiment and method, in order of first appearance, an experiment's teacher before its students."""
    found: dict[str, dict[str, list[RunRecord]]] = {}
    for record in records:
        found.setdefault(record.experiment, {}).setdefault(record.method, []).append(record)
    groups = [
        Group(experiment, method, tuple(sorted(runs, key=lambda run: run.seed)))
        for experiment, methods in found.items()
        for method, runs in methods.items()
    ]
    order = list(found)
    return sorted(groups, key=lambda group: (order.index(group.experiment), not group.is_teacher))


def measurements(group: Group) -> list[dict[str, Any]]:
    """The evaluations of the runs of a group that have one."""
    return [run.evaluation for run in group.runs if run.evaluation is not None]
