"""How far the stages of a plan are, for the terminal. Imports no torch."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from tabulate import tabulate

from spikedistill.artifacts import Store
from spikedistill.estimate import Cost, in_hours, total
from spikedistill.lease import STALE_S
from spikedistill.plan import DistillSpec, Plan, Row, Spec, TeacherSpec
from spikedistill.provenance import STARTS
from spikedistill.train.tracking import METRICS, whole_lines

CostOf = Callable[[Spec], Cost]


def plan_table(plan: Plan, cost_of: CostOf) -> str:
    """What would run: each stage with its artifact, and whether it is in the store or what it will cost."""
    store = Store(plan.config.store)
    settled = Settled(plan, store)
    rows = [
        (spec.stage, Path(ref).name, _cached(store, spec, settled), *_cost_cells(spec, settled, cost_of))
        for ref, spec in plan.stages.items()
    ]
    headers = ["stage", "artifact", "state", "GPUs", "hours"]
    table = tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True)
    return f"{table}\n\n{cost_line(plan, settled, cost_of)}"


def cost_line(plan: Plan, settled: Settled, cost_of: CostOf) -> str:
    """How much there is to do, in one line."""
    todo = [spec for ref, spec in plan.stages.items() if ref not in settled]
    count = f"{len(plan.stages)} stages: {len(plan.stages) - len(todo)} cached in {plan.config.store}, {len(todo)} to run"
    return f"{count}, {total(map(cost_of, todo))}" if todo else count


def _cost_cells(spec: Spec, settled: Settled, cost_of: CostOf) -> tuple[str, str]:
    if spec.ref in settled:
        return "", ""
    cost = cost_of(spec)
    return str(cost.gpus), in_hours(cost.hours)


def run_table(plan: Plan, cost_of: CostOf) -> str:
    """What would be compared: each row of the report, with how many of its runs (seeds) are done, and the cost of the rest."""
    settled = Settled(plan, Store(plan.config.store))
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in plan.rows:
        groups.setdefault((row.experiment, row.method), []).append(row)
    lines = [(*names, *_run_cells(plan, rows, settled, cost_of)) for names, rows in groups.items()]
    headers = ["experiment", "method", "architecture", "T", "epochs", "batch", "lr", "runs", "done", "GPU-hours"]
    table = tabulate(lines, headers=headers, tablefmt="simple", disable_numparse=True)
    return f"{table}\n\n{len(plan.rows)} runs; {cost_line(plan, settled, cost_of)}"


def _run_cells(plan: Plan, rows: list[Row], settled: Settled, cost_of: CostOf) -> list[str]:
    spec = plan.stages[rows[0].model]
    assert isinstance(spec, TeacherSpec | DistillSpec)
    steps = str(spec.time_steps) if isinstance(spec, DistillSpec) else "-"
    done = sum(row.evaluation in settled for row in rows)
    todo = [plan.stages[ref] for row in rows for ref in (row.model, row.evaluation) if ref not in settled]
    gpu_hours = in_hours(sum(cost_of(each).gpu_hours for each in todo))
    return [spec.arch, steps, *map(str, (spec.train.epochs, spec.train.batch_size, spec.train.lr, len(rows), done)), gpu_hours]


class Settled:
    """The artifacts of a plan that are there, and whose upstream is, all the way up, what they were made from.

    Asked with `in`; looks into the store only for what is asked, and once.
    """

    def __init__(self, plan: Plan, store: Store) -> None:
        """Look at nothing yet."""
        self._plan = plan
        self._store = store
        self._known: dict[str, bool] = {}

    def __contains__(self, ref: str) -> bool:
        if ref not in self._known:
            upstream = self._plan.stages[ref].upstream.values()
            self._known[ref] = all(each in self for each in upstream) and self._store.is_current(ref, upstream)
        return self._known[ref]

    def lost(self) -> list[str]:
        """Artifacts that are not there, although something that was made from them is."""
        stages = self._plan.stages
        made = (ref for ref in stages if self._store.manifest_path(ref).exists())
        upstream = dict.fromkeys(each for ref in made for each in stages[ref].upstream.values())
        return [ref for ref in upstream if not self._store.manifest_path(ref).exists()]


def _cached(store: Store, spec: Spec, settled: Settled) -> str:
    if spec.ref in settled:
        return "cached"
    states = {"missing": "to run", "complete": "to run: its upstream changed", "unreadable": "damaged: see spikedistill verify"}
    return states[store.status(spec.ref)]


def status_table(plan: Plan) -> str:
    """How far every stage is: done, running (with epoch and host), interrupted, or not started."""
    store = Store(plan.config.store)
    rows = [(spec.stage, Path(ref).name, stage_state(store, spec)) for ref, spec in plan.stages.items()]
    return tabulate(rows, headers=["stage", "artifact", "state"], tablefmt="simple")


def stage_state(store: Store, spec: Spec) -> str:
    """How far a stage is, in words."""
    if store.status(spec.ref) == "complete":
        manifest = store.manifest(spec.ref)
        return f"done in {manifest['wall_s']:.0f} s on {manifest['host']}"
    work = store.work(spec.ref)
    epoch = _last_epoch(work / METRICS)
    so_far = f", {epoch} epochs done" if epoch else ""
    try:
        age_s = time.time() - (work / "lease").stat().st_mtime
        holder = json.loads((work / "lease").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        was_started = (work / STARTS).exists()
        return f"interrupted{so_far}; goes on when run again" if was_started else "not started"
    if age_s > STALE_S:
        return f"interrupted on {holder['host']}{so_far}; goes on when run again"
    return f"running on {holder['host']}{so_far}"


def _last_epoch(metrics: Path) -> int:
    try:
        return 1 + max((json.loads(line).get("epoch", -1) for line in whole_lines(metrics)), default=-1)
    except (OSError, ValueError):
        return 0
