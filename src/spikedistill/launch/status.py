"""The progress of the stages of a plan, for the terminal. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path

from tabulate import tabulate

from spikedistill.plan.build import Plan
from spikedistill.plan.stages import Spec
from spikedistill.store.artifacts import Store
from spikedistill.store.lease import STALE_S, heartbeat_age_s, lease_path, read_holder
from spikedistill.store.provenance import STARTS
from spikedistill.train.tracking import METRICS, whole_lines


def status_table(plan: Plan) -> str:
    """Return a table of the state of every stage: done, running (with epoch and host), interrupted, or not started."""
    store = Store(plan.config.store)
    rows = [(spec.stage, Path(ref).name, stage_state(store, spec)) for ref, spec in plan.stages.items()]
    return tabulate(rows, headers=["stage", "artifact", "state"], tablefmt="simple")


def stage_state(store: Store, spec: Spec) -> str:
    """Return the state of a stage in words."""
    if store.status(spec.ref) == "complete":
        manifest = store.manifest(spec.ref)
        return f"done in {manifest['wall_s']:.0f} s on {manifest['host']}"
    work = store.work(spec.ref)
    epoch = _last_epoch(work / METRICS)
    so_far = f", {epoch} epochs done" if epoch else ""
    holder = read_holder(lease_path(work))
    if holder is None:
        was_started = (work / STARTS).exists()
        return f"interrupted{so_far}; resumes when run again" if was_started else "not started"
    if holder.is_gone() or heartbeat_age_s(lease_path(work)) > STALE_S:
        return f"interrupted on {holder.host}{so_far}; resumes when run again"
    return f"running on {holder.host}{so_far}"


def _last_epoch(metrics: Path) -> int:
    try:
        return 1 + max((json.loads(line).get("epoch", -1) for line in whole_lines(metrics)), default=-1)
    except (OSError, ValueError):
        return 0
