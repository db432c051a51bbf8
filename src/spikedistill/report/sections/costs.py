"""The costs of the stages (time, memory, GPU-hours) as tables. Imports no torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from spikedistill.plan.stages import STAGES
from spikedistill.report.records import StageCost

HEADERS = (
    "stage",
    "artifact",
    "state",
    "wall (s)",
    "GPU-hours",
    "peak memory (MiB)",
    "peak GPU memory (MiB)",
    "retries",
    "device",
)
NAMES = ("stage", "artifact", "state", "wall_s", "gpu_hours", "peak_memory_mib", "peak_gpu_memory_mib", "retries", "device")
DIGITS = (0, 0, 0, 1, 4, 0, 0, 0, 0)
FIRST_NUMBER, LAST_NUMBER = 3, 7
UNKNOWN = "-"
NOTE = (
    "Wall: time of the start that finished the stage; for training at least the sum of its epochs over all starts. Memory: of "
    "the process and the GPU of rank 0. Retries: starts after the first, whether after a time limit, a preemption or a failure. "
    "An artifact that another run or another user made is listed with its cost at that time."
)


def cost_cells(costs: Sequence[StageCost]) -> list[list[str]]:
    """Return one row per stage of the plan, under `HEADERS`."""
    return [[_text(value, digits) for value, digits in zip(_values(cost), DIGITS, strict=True)] for cost in costs]


def total_cells(costs: Sequence[StageCost]) -> list[list[str]]:
    """Return the sums over the stages of each kind, and over all stages, under `TOTAL_HEADERS`."""
    kinds = [kind for kind in STAGES if any(cost.stage == kind for cost in costs)]
    groups = [(kind, [cost for cost in costs if cost.stage == kind]) for kind in kinds] + [("all", list(costs))]
    return [_total(name, group) for name, group in groups]


TOTAL_HEADERS = (
    "stage",
    "done",
    "wall (s)",
    "GPU-hours",
    "largest peak memory (MiB)",
    "largest peak GPU memory (MiB)",
    "retries",
)


def _total(name: str, costs: Sequence[StageCost]) -> list[str]:
    done = sum(cost.state == "done" for cost in costs)
    wall_s = sum(cost.wall_s or 0.0 for cost in costs)
    gpu_hours = sum(cost.gpu_hours or 0.0 for cost in costs)
    memory = max((cost.peak_memory_mib or 0.0 for cost in costs), default=0.0)
    gpu_memory = max((cost.peak_gpu_memory_mib or 0.0 for cost in costs), default=0.0)
    retries = sum(cost.retries or 0 for cost in costs)
    numbers = [f"{wall_s:.1f}", f"{gpu_hours:.4f}", f"{memory:.0f}", f"{gpu_memory:.0f}", str(retries)]
    return [name, f"{done} of {len(costs)}", *numbers]


def csv_table(costs: Sequence[StageCost]) -> str:
    """Return one row per stage as CSV with plain numbers; unknown values are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(NAMES)
    writer.writerows(["" if value is None else value for value in _values(cost)] for cost in costs)
    return text.getvalue()


def _values(cost: StageCost) -> tuple[object, ...]:
    numbers = (cost.wall_s, cost.gpu_hours, cost.peak_memory_mib, cost.peak_gpu_memory_mib, cost.retries)
    return (cost.stage, cost.artifact, cost.state, *numbers, cost.device or None)


def _text(value: object, digits: int) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)
