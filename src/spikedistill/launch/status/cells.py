"""The cells of a snapshot's table, and its summary: what all ways to show it have in common."""

from __future__ import annotations

from spikedistill.launch.jobs.find import Found
from spikedistill.launch.status import words
from spikedistill.launch.status.files import printable
from spikedistill.launch.status.snapshot import Progress, Snapshot, StageStatus, Totals
from spikedistill.plan.estimate import in_hours

HEADERS = ("stage", "artifact", "state", "job", "epoch", "loss", "train", "valid.", "samples/s", "left")
"""Accuracies are in percent; `~` marks what comes from the estimate of a stage's cost instead of its own rate."""


def cells(stage: StageStatus) -> tuple[str, ...]:
    """Return the cells of a stage under `HEADERS`."""
    progress = stage.progress if stage.state != "done" else None
    left = words.duration(stage.left_s) if stage.left_s is not None else "longer than expected"
    is_to_come = stage.state not in ("done", "blocked", "failed", "cancelled", "damaged")
    return (
        stage.stage,
        stage.name,
        stage.said,
        stage.job.label if stage.job else "",
        _epoch(progress) if progress else "",
        _digits(progress.loss, 4) if progress else "",
        _digits(progress.accuracy, 1) if progress else "",
        _digits(progress.validation, 1) if progress else "",
        _digits(progress.samples_per_s, 0) if progress else "",
        ("~" if stage.is_estimate and stage.left_s is not None else "") + left if is_to_come else "",
    )


def _epoch(progress: Progress) -> str:
    if progress.unit != "epochs":
        return f"{100 * progress.part:.1f} %"
    done = f"{progress.epoch + progress.part:.2f}" if progress.part else str(progress.epoch)
    return f"{done}/{progress.epochs}"


def _digits(value: float | None, count: int) -> str:
    return "" if value is None else f"{value:.{count}f}"


def summary(snapshot: Snapshot) -> list[str]:
    """Return the lines below the table: totals, Snakemake, and what the reader must know."""
    return [
        _totals_line(snapshot.totals, len(snapshot.stages)),
        _mains_line(snapshot),
        *([f"other jobs: {', '.join(map(_name, snapshot.others))}"] if snapshot.others else []),
        *_unplanned_lines(snapshot),
        *([f"note: {printable(snapshot.problem)}"] if snapshot.problem else []),
    ]


def _totals_line(totals: Totals, num_stages: int) -> str:
    counts = ", ".join(f"{count} {state}" for state, count in totals.counts.items())
    parts = [f"{num_stages} stages: {counts}"]
    if totals.gpu_hours or totals.gpu_hours_left:
        parts.append(f"GPU-hours: {in_hours(totals.gpu_hours)} used, ~{in_hours(totals.gpu_hours_left)} to come")
    if totals.end is not None:
        parts.append(f"ends about {words.clock(totals.end)}, if {totals.side_by_side} run side by side")
    return "; ".join(parts)


def _mains_line(snapshot: Snapshot) -> str:
    if snapshot.mains:
        return f"Snakemake runs here: {', '.join(printable(main) for main in snapshot.mains)}"
    if any(stage.state in ("ready", "waiting") for stage in snapshot.stages):
        return "no Snakemake runs here: stages without a job stay as they are"
    return "no Snakemake runs here"


def _unplanned_lines(snapshot: Snapshot) -> list[str]:
    lines = []
    if snapshot.of_other_runs:
        names = ", ".join(map(_name, snapshot.of_other_runs))
        lines.append(f"jobs of a Snakemake that runs here with another configuration: {names}; {words.GIVE_IT}")
    if snapshot.stale:
        names = ", ".join(map(_name, snapshot.stale))
        lines.append(f"jobs whose stage is not in this configuration: {names}; spikedistill cancel --stale ends them")
    return lines


def _name(found: Found) -> str:
    return f"{printable(found.name)} ({found.job}, {found.job.state.lower()})"
