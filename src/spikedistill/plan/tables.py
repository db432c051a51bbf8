"""A plan as tables for the terminal: what would run, and what it will cost. Imports no torch."""

from __future__ import annotations

import collections
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tabulate import tabulate

from spikedistill import components
from spikedistill.data.scan import summary
from spikedistill.plan.build import Plan, Row
from spikedistill.plan.code import describe_code, is_released
from spikedistill.plan.costs.disk import disk_lines
from spikedistill.plan.estimate import Cost, in_hours, total
from spikedistill.plan.stages import STAGES, DistillSpec, NetworkSpec, PreprocessSpec, Spec
from spikedistill.plan.uptodate import UpToDate
from spikedistill.store.artifacts import Store

CostOf = Callable[[Spec], Cost]


def plan_table(plan: Plan, cost_of: CostOf) -> str:
    """Return the table of what would run: each stage with its artifact, and whether it is in the store or what it will cost."""
    store = Store(plan.config.store)
    up_to_date = UpToDate(plan, store)
    rows = [
        (spec.stage, Path(ref).name, _cached(store, spec, up_to_date), *_cost_cells(spec, up_to_date, cost_of))
        for ref, spec in plan.stages.items()
    ]
    headers = ["stage", "artifact", "state", "GPUs", "hours"]
    table = tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True)
    to_prepare = [spec for spec in plan.stages.values() if isinstance(spec, PreprocessSpec) and spec.ref not in up_to_date]
    notes = [*data_lines(plan), *disk_lines(to_prepare, Path(plan.config.store)), *code_lines(plan)]
    return "\n".join([table, "", *notes, cost_line(plan, up_to_date, cost_of)])


def data_lines(plan: Plan) -> list[str]:
    """Return a line for each dataset whose folder was looked into, with what was found there or stated."""
    specs = [spec for spec in plan.stages.values() if isinstance(spec, PreprocessSpec)]
    found = [(Path(spec.ref).name, summary(components.load("data.datasets", spec.dataset), spec.params)) for spec in specs]
    return [f"data: {name}: {text}" for name, text in found if text]


def code_lines(plan: Plan) -> list[str]:
    """Return a line for each module that is of a plug-in or not as released, with the stages whose ids depend on it."""
    makers: dict[tuple[str, str], list[str]] = {}
    for ref, spec in plan.stages.items():
        for module_entry in spec.code.items():
            makers.setdefault(module_entry, []).append(ref)
    lines = []
    for (module, entry), refs in sorted(makers.items()):
        following = set(refs)
        for ref, spec in plan.stages.items():  # upstream first
            if not following.isdisjoint(spec.upstream.values()):
                following.add(ref)
        counts = collections.Counter(str(plan.stages[ref].stage) for ref in following)
        what = ", ".join(f"{counts[stage]} {stage}" for stage in STAGES if counts[stage])
        follows = "other ids for" if is_released(module) else "its content is part of the ids of"
        lines.append(f"code: {module} is {describe_code(module, entry)}: {follows} {what}")
    return lines


def cost_line(plan: Plan, up_to_date: UpToDate, cost_of: CostOf) -> str:
    """Return one line that says how much there is to do."""
    todo = [spec for ref, spec in plan.stages.items() if ref not in up_to_date]
    count = f"{len(plan.stages)} stages: {len(plan.stages) - len(todo)} cached in {plan.config.store}, {len(todo)} to run"
    return f"{count}, {total(map(cost_of, todo))}" if todo else count


def expected_steps(plan: Plan, up_to_date: UpToDate, cost_of: CostOf) -> dict[str, Any]:
    """Return what `--logger lines` takes: seconds of each stage to run, by rule and artifact, and the number of the others."""
    todo = {f"{spec.stage} {Path(ref).name}": spec for ref, spec in plan.stages.items() if ref not in up_to_date}
    return {
        "seconds": {label: 3600 * cost_of(spec).hours for label, spec in todo.items()},
        "cached": len(plan.stages) - len(todo),
    }


def _cost_cells(spec: Spec, up_to_date: UpToDate, cost_of: CostOf) -> tuple[str, str]:
    if spec.ref in up_to_date:
        return "", ""
    cost = cost_of(spec)
    return str(cost.gpus), in_hours(cost.hours)


def run_table(plan: Plan, cost_of: CostOf) -> str:
    """Return the table of what would be compared: each row of the report, how many of its runs are done, the cost of the rest."""
    up_to_date = UpToDate(plan, Store(plan.config.store))
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in plan.rows:
        groups.setdefault((row.experiment, row.method), []).append(row)
    lines = [(*names, *_run_cells(plan, rows, up_to_date, cost_of)) for names, rows in groups.items()]
    headers = ["experiment", "method", "architecture", "T", "epochs", "batch", "lr", "runs", "done", "GPU-hours"]
    table = tabulate(lines, headers=headers, tablefmt="simple", disable_numparse=True)
    return f"{table}\n\n{len(plan.rows)} runs; {cost_line(plan, up_to_date, cost_of)}"


def _run_cells(plan: Plan, rows: list[Row], up_to_date: UpToDate, cost_of: CostOf) -> list[str]:
    spec = plan.stages[rows[0].model]
    assert isinstance(spec, NetworkSpec)
    steps = str(spec.time_steps) if isinstance(spec, DistillSpec) else "-"
    done = sum(row.evaluation in up_to_date for row in rows)
    todo = [plan.stages[ref] for row in rows for ref in (row.model, row.evaluation) if ref not in up_to_date]
    gpu_hours = in_hours(sum(cost_of(each).gpu_hours for each in todo))
    recipe = ("imported", "", "") if spec.train is None else (spec.train.epochs, spec.train.batch_size, spec.train.lr)
    return [spec.arch, steps, *map(str, (*recipe, len(rows), done)), gpu_hours]


def _cached(store: Store, spec: Spec, up_to_date: UpToDate) -> str:
    if spec.ref in up_to_date:
        return "cached"
    states = {"missing": "to run", "complete": "to run: its upstream changed", "unreadable": "damaged: see spikedistill verify"}
    return states[store.status(spec.ref)]
