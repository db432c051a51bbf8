"""The content of a report: one record per network of the comparison, and the cost of every stage. Imports no torch."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from spikedistill.plan.stages import TeacherSpec
from spikedistill.report.published import PublishedResult
from spikedistill.report.statistics import deviation, half_width


@dataclass(frozen=True)
class RunRecord:
    """One teacher or student of a comparison, with its measurements.

    Attributes:
        experiment: label of the experiment.
        dataset: name of the dataset.
        role: "teacher" or "student".
        method: label of the method in the configuration; "teacher" for a teacher.
        arch: name of the architecture.
        time_steps: time steps T of a student; None for a teacher.
        seed: seed of the run.
        artifact: name of the trained network in the store.
        evaluation: content of evaluation.json; None if there is none, see `problem`.
        is_baseline: True for the method that the others of the experiment are compared with.
        problem: why there is no evaluation: the stage that failed or has not finished, and the last error in its log.
        validation: accuracy of the trained network on the validation split, in [0, 1], also before the test split is measured;
            None if it is not trained yet or nothing is held out.
        metrics: records of metrics.jsonl, one per epoch; for a failed run those written so far.
        manifest: manifest of the trained network; empty if there is none.
        examples: arrays of examples.npz, a few test samples and their saliency maps.
        correct: [N], whether it predicts the class of each sample of the test split; None if the evaluation is of a version
            that did not keep the predictions.
        sources: the evaluation and all that it was made from, upstream first: reference -> facts, see `trace.facts`.
        timed_alone: whether no other stage of the plan ran on the same machine while it was evaluated; None if that is unknown.
    """

    experiment: str
    dataset: str
    role: Literal["teacher", "student"]
    method: str
    arch: str
    time_steps: int | None
    seed: int
    artifact: str
    evaluation: dict[str, Any] | None
    is_baseline: bool = False
    problem: str | None = None
    validation: float | None = None
    metrics: list[dict[str, Any]] = field(default_factory=list)
    manifest: dict[str, Any] = field(default_factory=dict)
    examples: Mapping[str, npt.NDArray[Any]] | None = None
    correct: npt.NDArray[np.bool_] | None = None
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    timed_alone: bool | None = None

    @property
    def teachers(self) -> frozenset[str]:
        """References of the teachers among its sources."""
        return frozenset(ref for ref in self.sources if ref.startswith(f"{TeacherSpec.folder}/"))


@dataclass(frozen=True)
class StageCost:
    """The cost of one stage of the plan; what is unknown is None.

    Attributes:
        stage: name of the stage.
        artifact: name of its artifact.
        state: "done", or the state that `spikedistill status` shows.
        wall_s: time of the start that finished it; for training at least the sum of its epochs over all starts.
        gpu_hours: `wall_s` times the number of GPUs, in hours.
        peak_memory_mib: peak resident memory of the process of rank 0.
        peak_gpu_memory_mib: peak memory allocated on the GPU of rank 0.
        starts: number of starts so far; 1 means no retry.
        device: name of the device; empty if unknown.
    """

    stage: str
    artifact: str
    state: str
    wall_s: float | None = None
    gpu_hours: float | None = None
    peak_memory_mib: float | None = None
    peak_gpu_memory_mib: float | None = None
    starts: int | None = None
    device: str = ""

    @property
    def retries(self) -> int | None:
        """Number of starts after the first."""
        return None if self.starts is None else self.starts - 1


@dataclass(frozen=True)
class Comparison:
    """Everything that a report shows.

    Attributes:
        records: one per network.
        costs: one per stage of the plan.
        published: published results by experiment.
        config: the configuration with all defaults.
        baselines: labels of the methods that the others are tested against, by experiment; those of the table come first.
    """

    records: Sequence[RunRecord]
    costs: Sequence[StageCost] = ()
    published: Mapping[str, Sequence[PublishedResult]] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    baselines: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def is_partial(self) -> bool:
        """True if a run that the plan asks for has no evaluation."""
        return any(record.evaluation is None for record in self.records)


class Group(NamedTuple):
    """The runs of one method in one experiment, which differ only in the seed."""

    experiment: str
    method: str
    runs: tuple[RunRecord, ...]

    @property
    def is_teacher(self) -> bool:
        """True for the teachers of the experiment."""
        return self.runs[0].role == "teacher"

    @property
    def is_baseline(self) -> bool:
        """True for the method that the others of the experiment are compared with."""
        return self.runs[0].is_baseline

    @property
    def teachers(self) -> frozenset[str]:
        """References of the teachers behind its runs that were measured."""
        return frozenset().union(*(run.teachers for run in self.runs))


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1) over seeds; a single value has no deviation."""

    mean: float
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """Return the spread of some values; None if there are none."""
        if not values:
            return None
        return cls(statistics.fmean(values), deviation(values) if len(values) > 1 else None)

    def __mul__(self, factor: float) -> Spread:
        return Spread(self.mean * factor, None if self.std is None else self.std * factor)

    def format(self, digits: int) -> str:
        """Return "mean ± std" with `digits` decimals, or the mean alone."""
        return f"{self.mean:.{digits}f}" + ("" if self.std is None else f" ± {self.std:.{digits}f}")


@dataclass(frozen=True)
class Difference:
    """Mean of the differences to the baseline, paired by seed, with the confidence interval of Student's t.

    Attributes:
        mean: mean difference.
        low: lower bound of the 95 % confidence interval; None for a single pair.
        high: upper bound of it; None for a single pair.
        num_pairs: number of seeds that both methods have.
    """

    mean: float
    low: float | None
    high: float | None
    num_pairs: int

    @classmethod
    def of(cls, values: Mapping[int, float], baseline: Mapping[int, float]) -> Difference | None:
        """Return the difference of two methods, given their values by seed; None if they share no seed."""
        pairs = [values[seed] - baseline[seed] for seed in sorted(values.keys() & baseline.keys())]
        if not pairs:
            return None
        mean, half = statistics.fmean(pairs), half_width(pairs)
        if half is None:
            return cls(mean, None, None, 1)
        return cls(mean, mean - half, mean + half, len(pairs))

    def format(self, factor: float, digits: int) -> str:
        """Return "+mean [low, high]", or the mean alone, after multiplying by `factor`."""
        text = f"{self.mean * factor:+.{digits}f}"
        if self.low is None or self.high is None:
            return text
        return f"{text} [{self.low * factor:+.{digits}f}, {self.high * factor:+.{digits}f}]"


def group_records(records: Iterable[RunRecord]) -> list[Group]:
    """Group records by experiment and method in order of first appearance, the teacher of an experiment before its students."""
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


def by_experiment(groups: Iterable[Group]) -> dict[str, list[Group]]:
    """Return the groups of each experiment, in their order."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group.experiment, []).append(group)
    return found


def measurements(group: Group) -> list[dict[str, Any]]:
    """Return the evaluations of the runs of a group; runs without one are skipped."""
    return [run.evaluation for run in group.runs if run.evaluation is not None]


def difference(group: Group, baseline: Group | None) -> Difference | None:
    """Return the accuracy of a group minus that of its experiment's baseline; None for the baseline itself and for teachers."""
    if baseline is None or group.is_teacher or group.is_baseline:
        return None
    return Difference.of(accuracies(group), accuracies(baseline))


def accuracies(group: Group) -> dict[int, float]:
    """Return the accuracy of each run that was measured, in [0, 1], by seed."""
    return {run.seed: run.evaluation["accuracy"] for run in group.runs if run.evaluation is not None}


def mean_confusion(group: Group) -> npt.NDArray[np.float64] | None:
    """Return the share of each true class (rows) that is predicted as each class, over all runs; None if none was measured."""
    measured = [m["confusion"] for m in measurements(group) if m.get("confusion")]
    if not measured:
        return None
    counts = np.sum(np.asarray(measured, dtype=float), axis=0)
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)
