"""Collects everything that is known about the runs of a plan, failed and unfinished ones included. Imports no torch."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikedistill import components
from spikedistill.config.models import ExperimentConfig
from spikedistill.errors import ArtifactError
from spikedistill.evaluate.settings import EVALUATION, EXAMPLES, PREDICTIONS
from spikedistill.launch.command import stage_log
from spikedistill.launch.status.words import stage_state
from spikedistill.plan.build import Plan, Row
from spikedistill.plan.stages import DistillSpec, NetworkSpec, Spec, TeacherSpec
from spikedistill.plan.uptodate import UpToDate
from spikedistill.report.alone import measured_alone
from spikedistill.report.published import PublishedResult, find_published
from spikedistill.report.records import Comparison, RunRecord, StageCost
from spikedistill.report.sources import facts
from spikedistill.store.artifacts import Store
from spikedistill.store.provenance import STARTS
from spikedistill.train.tracking import METRICS, whole_lines

EPOCH_SECONDS = "time/epoch(s)"
VALIDATION = "validation/accuracy(%)"
Lines = Callable[[Path], list[dict[str, Any]]]


def collect(plan: Plan, store: Store) -> Comparison:
    """Collect the records, costs and published results of a plan; each artifact is verified as it is read.

    A row whose stages have not all finished, or with a damaged artifact, has a `problem` instead of an evaluation.
    """
    up_to_date = UpToDate(plan, store)
    read = functools.cache(_read_lines)  # the metrics of a network are read for its rows and for its cost
    source = functools.cache(lambda ref: facts(store.manifest(ref)))  # data and teachers are behind many rows
    alone = measured_alone({ref: store.manifest(ref) for ref in plan.stages if ref in up_to_date})
    baselines = {label: _baselines(experiment) for label, experiment in plan.config.experiments.items()}
    return Comparison(
        records=[
            replace(
                _record(plan, store, row, up_to_date, baselines[row.experiment][0], read, source),
                timed_alone=alone.get(row.evaluation),
            )
            for row in plan.rows
        ],
        costs=[_cost(store, spec, spec.ref in up_to_date, read) for spec in plan.stages.values()],
        published={label: _published(experiment) for label, experiment in plan.config.experiments.items()},
        config=plan.config.model_dump(mode="json"),
        baselines=baselines,
    )


def _record(
    plan: Plan, store: Store, row: Row, up_to_date: UpToDate, baseline: str, read: Lines, source: Callable[[str], dict[str, Any]]
) -> RunRecord:
    spec = plan.stages[row.model]
    assert isinstance(spec, NetworkSpec)
    known: dict[str, Any] = {
        "experiment": row.experiment,
        "dataset": spec.dataset,
        "role": spec.role,
        "method": row.method,
        "arch": spec.arch if spec.train is not None else f"{spec.arch} (imported)",
        "time_steps": None if isinstance(spec, TeacherSpec) else spec.time_steps,
        "seed": row.seed,
        "artifact": Path(row.model).name,
        "is_baseline": isinstance(spec, DistillSpec) and row.method == baseline,
    }
    problem = next(_problems(plan, store, row, up_to_date), None)
    if problem is None:
        try:
            evaluation, model = store.open(row.evaluation), store.open(row.model)
        except ArtifactError as err:
            problem = str(err)
    if problem is not None:
        folder = store.path if row.model in up_to_date else store.work
        metrics = read(folder(row.model) / METRICS)
        validation = _kept_accuracy(spec, metrics) if row.model in up_to_date else None
        return RunRecord(**known, evaluation=None, problem=problem, validation=validation, metrics=metrics)
    measured = json.loads((evaluation / EVALUATION).read_text(encoding="utf-8"))
    return RunRecord(
        **known,
        evaluation=measured,
        validation=measured.get("validation", {}).get("accuracy"),
        metrics=read(model / METRICS),
        manifest=store.manifest(row.model),
        examples=_arrays(evaluation / EXAMPLES),
        correct=_correct(evaluation / PREDICTIONS),
        sources={spec.ref: source(spec.ref) for spec in plan.with_upstream(plan.stages[row.evaluation])},
    )


def _kept_accuracy(spec: NetworkSpec, metrics: list[dict[str, Any]]) -> float | None:
    """Return the accuracy on the validation split of the network that its training kept; None if nothing is held out."""
    accuracies = [epoch[VALIDATION] / 100 for epoch in metrics if VALIDATION in epoch]
    if spec.train is None or not accuracies:
        return None
    return max(accuracies) if spec.train.select == "best" else accuracies[-1]


def _problems(plan: Plan, store: Store, row: Row, up_to_date: UpToDate) -> Iterator[str]:
    """Yield why a row has no evaluation, the problem furthest upstream first."""
    for spec in plan.with_upstream(plan.stages[row.evaluation]):
        if spec.ref not in up_to_date:
            state = stage_state(store, spec)
            error = _last_error(stage_log(spec)) if state.startswith("interrupted") else None
            yield f"{spec.stage} {Path(spec.ref).name} " + (f"failed: {error}" if error else state)


def _last_error(log: Path) -> str | None:
    """Return the last error in the log of a stage; None if there is none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    errors = [line.partition(" ERROR ")[2] for line in lines if " ERROR " in line]
    return errors[-1] if errors else None


def _read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in whole_lines(file)]


def _arrays(file: Path) -> dict[str, Any] | None:
    if not file.exists():
        return None
    with np.load(io.BytesIO(file.read_bytes())) as arrays:
        return dict(arrays)


def _correct(file: Path) -> npt.NDArray[np.bool_] | None:
    """Return [N], whether each sample of the test split is predicted correctly; None for an evaluation of an older version."""
    arrays = _arrays(file)
    return None if arrays is None else arrays["prediction"] == arrays["label"]


def _cost(store: Store, spec: Spec, is_up_to_date: bool, read: Lines) -> StageCost:
    name = Path(spec.ref).name
    if not is_up_to_date:
        starts = read(store.work(spec.ref) / STARTS)
        return StageCost(spec.stage, name, stage_state(store, spec), starts=len(starts) or None)
    manifest = store.manifest(spec.ref)
    epochs_s = sum(record.get(EPOCH_SECONDS, 0.0) for record in read(store.path(spec.ref) / METRICS))
    wall_s = max(manifest["wall_s"], round(epochs_s, 3))
    on_gpu = manifest.get("device", "cpu") != "cpu"
    return StageCost(
        spec.stage,
        name,
        "done",
        wall_s=wall_s,
        gpu_hours=round(wall_s * manifest["world_size"] / 3600, 6) if on_gpu else 0.0,
        peak_memory_mib=manifest.get("peak_memory_mib"),
        peak_gpu_memory_mib=manifest.get("peak_gpu_memory_mib"),
        starts=manifest.get("starts"),
        device=manifest.get("device", ""),
    )


def _baselines(experiment: ExperimentConfig) -> tuple[str, ...]:
    """Return the labels of the methods that the others are compared with; at least one."""
    without_teacher = (label for label in experiment.methods if "teacher" not in _needs(experiment, label))
    return experiment.baselines or (next(without_teacher, next(iter(experiment.methods))),)


def _needs(experiment: ExperimentConfig, label: str) -> frozenset[str]:
    component = components.load("distill", _component(experiment, label))
    return component.needs(component.Params.model_validate(experiment.methods[label].params))


def _component(experiment: ExperimentConfig, label: str) -> str:
    return components.canonical(experiment.methods[label].method or label)


def _published(experiment: ExperimentConfig) -> tuple[PublishedResult, ...]:
    methods = frozenset(_component(experiment, label) for label in experiment.methods)
    return find_published(components.canonical(experiment.dataset.name), methods)
