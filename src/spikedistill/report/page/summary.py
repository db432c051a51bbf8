"""What stands at the top of the page: what was measured, when, with which code and configuration. Imports no torch."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Sequence

from spikedistill.report.records import Comparison, RunRecord

MAX_NAMED = 3


def summary(comparison: Comparison) -> list[tuple[str, str]]:
    """Return names and values. All of it is from the artifacts: a report that is written again is the same, to the byte."""
    found = [("runs", _runs(comparison.records))]
    evaluations = [facts for run in comparison.records if run.sources for facts in [list(run.sources.values())[-1]]]
    if dates := sorted(facts["created"] for facts in evaluations if facts.get("created")):
        found.append(("measured", _period(dates[0], dates[-1])))
    commits = {facts["commit"]: None for run in comparison.records for facts in run.sources.values() if facts.get("commit")}
    if commits:
        found.append(("commit", _named(list(commits))))
    canonical = json.dumps(comparison.config, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:12]
    return [*found, ("configuration", f"sha256 {digest}…, in full at the end of this page and in config.json")]


def _runs(records: Sequence[RunRecord]) -> str:
    measured = sum(run.evaluation is not None for run in records)
    experiments = len({run.experiment for run in records})
    methods = len({run.method for run in records if run.role == "student"})
    seeds = len({run.seed for run in records})
    counts = ", ".join([_count(experiments, "experiment"), _count(methods, "method"), _count(seeds, "seed")])
    return f"{measured} of {len(records)} measured: {counts}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _period(first: str, last: str) -> str:
    start, end = (datetime.datetime.fromisoformat(each).astimezone(datetime.UTC) for each in (first, last))
    parts = [f"{start:%Y-%m-%d %H:%M}"]
    if (end - start).total_seconds() >= 60:
        parts.append(f"{end:%H:%M}" if start.date() == end.date() else f"{end:%Y-%m-%d %H:%M}")
    return " to ".join(parts) + " UTC"


def _named(texts: Sequence[str]) -> str:
    more = [f"and {len(texts) - MAX_NAMED} more"] if len(texts) > MAX_NAMED else []
    return ", ".join([*texts[:MAX_NAMED], *more])
