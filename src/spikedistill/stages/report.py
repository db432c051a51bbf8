"""Stage `report`: every evaluation of a plan in, tables and figures out."""

from __future__ import annotations

import json
from pathlib import Path

from spikedistill.artifacts import Store
from spikedistill.plan import DistillSpec, Plan, Row, TeacherSpec
from spikedistill.report.records import RunRecord


def collect_records(plan: Plan, store: Store) -> list[RunRecord]:
    """The records of every row of the plan; each artifact is verified as it is read.

    Raises:
        ArtifactError: if an artifact is missing or damaged.
    """
    return [_record(plan, store, row) for row in plan.rows]


def _record(plan: Plan, store: Store, row: Row) -> RunRecord:
    spec = plan.stages[row.model]
    assert isinstance(spec, TeacherSpec | DistillSpec)
    model = store.open(row.model)
    evaluation = store.open(row.evaluation)
    lines = (model / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return RunRecord(
        experiment=row.experiment,
        dataset=spec.dataset,
        role="teacher" if isinstance(spec, TeacherSpec) else "student",
        method=row.method,
        arch=spec.arch,
        time_steps=None if isinstance(spec, TeacherSpec) else spec.time_steps,
        seed=row.seed,
        artifact=Path(row.model).name,
        evaluation=json.loads((evaluation / "evaluation.json").read_text(encoding="utf-8")),
        metrics=[json.loads(line) for line in lines],
        manifest=store.manifest(row.model),
    )
