"""What the report is made from: one record per network of the comparison, and what every stage cost. Imports no torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from spikedistill.report.published import PublishedResult

CONFIDENCE = 0.95


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
    """Content of evaluation.json; None when there is none: see `problem`."""
    is_baseline: bool = False
    """Whether the report compares the other methods of the experiment with this one."""
    problem: str | None = None
    """Why there is no evaluation: which stage failed or has not ended, and what its log says."""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    """Records of metrics.jsonl, one per epoch; of a run that failed, those that there are."""
    manifest: dict[str, Any] = field(default_factory=dict)
    examples: Mapping[str, npt.NDArray[Any]] | None = None
    """Arrays of examples.npz: a few test samples and what the network attends to."""


@dataclass(frozen=True)
class StageCost:
    """What one stage of the plan took."""

    stage: str
    artifact: str
    state: str
    """"done", or how far it is."""
    wall_s: float | None = None
    """Of the start that finished it; of training at least the sum of its epochs over all starts."""
    gpu_hours: float | None = None
    peak_memory_mib: float | None = None
    """Largest resident memory of the first rank's process."""
    peak_gpu_memory_mib: float | None = None
    """Largest memory allocated on the first rank's GPU."""
    starts: int | None = None
    """How often the stage was started so far; 1 means without a retry."""
    device: str = ""

    @property
    def retries(self) -> int | None:
        """How often the stage was started again."""
        return None if self.starts is None else self.starts - 1


@dataclass(frozen=True)
class Comparison:
    """Everything that a report shows."""

    records: Sequence[RunRecord]
    costs: Sequence[StageCost] = ()
    reported: Mapping[str, Sequence[PublishedResult]] = field(default_factory=dict)
    """Published figures, by experiment."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The configuration as it was used."""

    @property
    def is_partial(self) -> bool:
        """Whether something that was asked for is missing."""
        return any(record.evaluation is None for record in self.records)


class Group(NamedTuple):
    """The runs of one method in one experiment: equal but for the seed."""

    experiment: str
    method: str
    runs: tuple[RunRecord, ...]

    @property
    def is_teacher(self) -> bool:
        """Whether these are the experiment's teachers."""
        return self.runs[0].role == "teacher"

    @property
    def is_baseline(self) -> bool:
        """Whether the other methods of the experiment are compared with this one."""
        return self.runs[0].is_baseline


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


@dataclass(frozen=True)
class Difference:
    """Mean of the paired differences to the baseline, seed by seed, with the confidence interval of Student's t."""

    mean: float
    low: float | None
    high: float | None
    """Bounds of the 95 % interval; None for a single pair, which has none."""
    num_pairs: int

    @classmethod
    def of(cls, values: Mapping[int, float], baseline: Mapping[int, float]) -> Difference | None:
        """The difference of two methods over the seeds that both have; None when they share no seed."""
        pairs = [values[seed] - baseline[seed] for seed in sorted(values.keys() & baseline.keys())]
        if not pairs:
            return None
        mean = statistics.fmean(pairs)
        if len(pairs) == 1:
            return cls(mean, None, None, 1)
        from scipy.stats import t

        half = float(t.ppf((1 + CONFIDENCE) / 2, len(pairs) - 1)) * statistics.stdev(pairs) / math.sqrt(len(pairs))
        return cls(mean, mean - half, mean + half, len(pairs))

    def format(self, factor: float, digits: int) -> str:
        """`+mean [low, high]`, or the mean alone."""
        text = f"{self.mean * factor:+.{digits}f}"
        if self.low is None or self.high is None:
            return text
        return f"{text} [{self.low * factor:+.{digits}f}, {self.high * factor:+.{digits}f}]"


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


def difference(group: Group, baseline: Group | None) -> Difference | None:
    """Accuracy of a group less that of the baseline of its experiment; None for the baseline itself, and for teachers."""
    if baseline is None or group.is_teacher or group.is_baseline:
        return None
    return Difference.of(_accuracies(group), _accuracies(baseline))


def _accuracies(group: Group) -> dict[int, float]:
    return {run.seed: run.evaluation["accuracy"] for run in group.runs if run.evaluation is not None}


def mean_confusion(group: Group) -> npt.NDArray[np.float64] | None:
    """Share of each true class, in rows, that is predicted as each class, over all runs; None when nothing was measured."""
    measured = [m["confusion"] for m in measurements(group) if m.get("confusion")]
    if not measured:
        return None
    counts = np.sum(np.asarray(measured, dtype=float), axis=0)
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)
