"""A snapshot as text: a table of all stages, lines about what has changed, or JSON."""

from __future__ import annotations

import dataclasses
import datetime
import json
import time
from collections.abc import Iterator
from typing import Any

from tabulate import tabulate

from spikedistill.launch.jobs.find import Found
from spikedistill.launch.jobs.job import Job
from spikedistill.launch.status.cells import HEADERS, cells, summary
from spikedistill.launch.status.snapshot import Snapshot, StageStatus


def as_table(snapshot: Snapshot) -> str:
    """Return a table of every stage, without the columns that are empty, and the summary."""
    rows = [cells(stage) for stage in snapshot.stages]
    used = [i for i in range(len(HEADERS)) if any(row[i] for row in rows)]
    shown = [[row[i] for i in used] for row in rows]
    table = tabulate(shown, headers=[HEADERS[i] for i in used], tablefmt="simple", disable_numparse=True)
    return "\n".join([table, "", *summary(snapshot)])


class Lines:
    """Tells what has changed from one snapshot to the next, a line for each stage; for logs and pipes."""

    def __init__(self) -> None:
        """Begin with nothing told."""
        self._told: dict[str, tuple[str, ...]] = {}
        self._summary: list[str] = []

    def changes(self, snapshot: Snapshot) -> Iterator[str]:
        """Yield the lines about a snapshot; of the first, the stages that are done or to come are left to the totals."""
        moment = time.strftime("%H:%M:%S", time.localtime(snapshot.time))
        for stage in snapshot.stages:
            told = (stage.state, stage.said, *cells(stage)[4:9])
            is_news = stage.state not in ("done", "ready", "waiting", "blocked") if not self._summary else True
            if self._told.get(stage.ref) != told and is_news:
                yield f"{moment} {' '.join(filter(None, _line(stage)))}"
            self._told[stage.ref] = told
        lines = summary(snapshot)
        if lines != self._summary:
            yield from (f"{moment} {line}" for line in lines)
        self._summary = lines


def _line(stage: StageStatus) -> Iterator[str]:
    _, _, said, _, epoch, loss, train, validation, speed, left = cells(stage)
    yield f"{stage.stage} {stage.name}: {said}"
    for name, cell, unit in (
        ("" if epoch.endswith("%") else "epoch", epoch, ""),
        ("loss", loss, ""),
        ("train", train, " %"),
        ("validation", validation, " %"),
        ("", speed, " samples/s"),
        ("left:", left, ""),
    ):
        if cell:
            yield f"{name} {cell}{unit}".strip()


def as_json(snapshot: Snapshot) -> str:
    """Return a snapshot as one line of JSON; times are in ISO format, spans in seconds."""
    content = {
        "time": _iso(snapshot.time),
        "totals": {**dataclasses.asdict(snapshot.totals), "end": _iso(snapshot.totals.end)},
        "stages": [_stage(stage) for stage in snapshot.stages],
        "stale_jobs": [_found(each) for each in snapshot.stale],
        "jobs_of_other_runs": [_found(each) for each in snapshot.of_other_runs],
        "other_jobs": [_found(each) for each in snapshot.others],
        "snakemake": [{"pid": main.pid, "host": main.host} for main in snapshot.mains],
        "problem": snapshot.problem or None,
    }
    return json.dumps(content)


def _stage(stage: StageStatus) -> dict[str, Any]:
    fields = {field.name: getattr(stage, field.name) for field in dataclasses.fields(stage)}
    progress = stage.progress
    return {
        **fields,
        "name": stage.name,
        "job": _job(stage.job) if stage.job else None,
        "progress": dataclasses.asdict(progress) if progress else None,
    }


def _found(found: Found) -> dict[str, Any]:
    return {"name": found.name, **_job(found.job)}


def _job(job: Job) -> dict[str, Any]:
    fields = dataclasses.asdict(job)
    return {**fields, "folder": str(job.folder), "start": _iso(job.start), "preempted": _iso(job.preempted)}


def _iso(moment: float | None) -> str | None:
    if moment is None:
        return None
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat(timespec="seconds")
