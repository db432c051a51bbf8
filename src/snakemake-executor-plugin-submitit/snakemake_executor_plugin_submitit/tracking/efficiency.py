"""Compare requested with used time, memory, CPUs and GPUs by rule, from Slurm's accounting.

`python -m snakemake_executor_plugin_submitit.tracking.efficiency [FOLDER]` reports on every attempt whose log still exists.
"""

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_submitit.jsonfile import RESULT, read_result, write_file
from snakemake_executor_plugin_submitit.submission.commands import query_environment
from snakemake_executor_plugin_submitit.submission.states import FINAL, NO_ACCOUNTING

TABLE, SUMMARY = "efficiency.tsv", "efficiency.txt"
LOG = re.compile(r"(\d+(?:_\d+)?)_0_log\.out")
FIELDS = ("JobID", "State", "ElapsedRaw", "TimelimitRaw", "TotalCPU", "AllocNodes", "AllocTRES", "TRESUsageInTot")
ENDED = FINAL | {"REQUEUED", "RESIZING"}  # the job continues, but the run that accounting records under these states is over
CHUNK = 500
CALL_TIMEOUT_S = 120
SACCT_LAG_S = 10.0
MB = {"": 2**-20, "K": 2**-10, "M": 1.0, "G": 2.0**10, "T": 2.0**20, "P": 2.0**30, "E": 2.0**40}
HEADERS = (
    *("rule", "runs", "not\ncompleted", "limit\nmin", "longest\nmin"),
    *("memory\nMB/node", "peak\nMB/node", "peak\n%", "CPU\n%", "GPU\nhours"),
)


class NoAccountingError(Exception):
    """Accounting is missing or does not answer; the message is Slurm's."""


@dataclass(frozen=True)
class Usage:
    """One run of one job; a requeued job has several. None means that Slurm sets no limit or has not measured the value.

    Attributes:
        rule: the workflow's rule.
        job: the job's name.
        job_id: the job's id in Slurm.
        state: final state of the run.
        nodes: number of allocated nodes.
        cpus: number of allocated CPUs, on all nodes.
        gpus: number of allocated GPUs, on all nodes.
        minutes_asked: time limit.
        minutes_used: time from start to end.
        mem_mb_asked: requested memory per node.
        mem_mb_used: peak memory, averaged over the nodes.
        cpu_minutes_used: CPU time of all processes.
    """

    rule: str
    job: str
    job_id: str
    state: str
    nodes: int
    cpus: int
    gpus: int
    minutes_asked: float | None
    minutes_used: float
    mem_mb_asked: float | None
    mem_mb_used: float | None
    cpu_minutes_used: float


def find_jobs(folder: Path) -> dict[str, str]:
    """Return the names of the jobs by id, for all attempts whose logs are in the executor's folder."""
    logs = ((LOG.fullmatch(log.name), log) for log in folder.glob("*/[0-9]*/*_0_log.out"))
    # an array keeps its logs in one folder, and each job's folder has a link
    return {match[1]: log.parent.parent.name for match, log in logs if match and log.is_symlink() == ("_" in match[1])}


def find_pooled(folder: Path) -> dict[Path, str]:
    """Return the names of the jobs that ran in pools, by their folders, for all attempts that left a result."""
    return {result.parent: result.parent.parent.name for result in folder.glob(f"*/[0-9]*/{RESULT}") if not result.is_symlink()}


def read_pooled_usage(names: Mapping[Path, str]) -> list[Usage]:
    """Return what jobs in pools used, as measured by their workers; Slurm's accounting knows only the workers.

    Args:
        names: names of jobs, by their folders; those that did not run in a pool are left out.
    """
    results = ((name, read_result(job_dir) or {}) for job_dir, name in names.items())
    return [_pooled_usage(name, result, result["usage"]) for name, result in results if isinstance(result.get("usage"), dict)]


def _pooled_usage(name: str, result: Mapping[str, Any], used: Mapping[str, Any]) -> Usage:
    return Usage(
        rule=name.partition(".")[0],
        job=name,
        job_id=str(result.get("worker", "")).rpartition(".")[0],
        state="COMPLETED" if result["status"] == 0 else str(result.get("state", "FAILED")),
        nodes=1,
        cpus=used["cpus"],
        gpus=used["gpus"],
        minutes_asked=used["limit_s"] / 60,
        minutes_used=used["wall_s"] / 60,
        mem_mb_asked=used["mem_mb"],
        mem_mb_used=used["peak_mb"],
        cpu_minutes_used=used["cpu_s"] / 60,
    )


def read_usage(names: Mapping[str, str]) -> list[Usage]:
    """Query accounting about jobs; leave out unknown jobs and runs that have not ended.

    Args:
        names: names of the jobs, by id.

    Raises:
        NoAccountingError: if accounting does not answer.
    """
    usages, ids = [], sorted(names)
    for start in range(0, len(ids), CHUNK):
        for rows in _runs(_query(ids[start : start + CHUNK])):
            job = rows[0]
            state = job["State"].partition(" ")[0]
            if job["JobID"] in names and state in ENDED:
                usages.append(_usage(names[job["JobID"]], state, job, steps=rows[1:]))
    return sorted(usages, key=lambda usage: (usage.rule, usage.job, usage.job_id))


def _query(job_ids: Sequence[str]) -> list[dict[str, str]]:
    command = ["sacct", "--duplicates", "-n", "-P", "-o", ",".join(FIELDS), "-j", ",".join(job_ids)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CALL_TIMEOUT_S, env=query_environment())
    except FileNotFoundError as err:
        raise NoAccountingError("there is no sacct on this machine") from err
    except (OSError, subprocess.TimeoutExpired) as err:
        raise NoAccountingError(f"sacct gave no answer: {err}") from err
    if done.returncode:
        words = " ".join(done.stderr.split())
        raise NoAccountingError("this cluster has no accounting" if NO_ACCOUNTING in words else f"sacct failed: {words}")
    return [dict(zip(FIELDS, line.split("|"), strict=False)) for line in done.stdout.splitlines()]


def _runs(rows: Iterable[dict[str, str]]) -> list[list[dict[str, str]]]:
    """Group each run of a job with the steps that follow it."""
    runs: list[list[dict[str, str]]] = []
    for row in rows:
        if "." not in row["JobID"]:
            runs.append([row])
        elif runs:
            runs[-1].append(row)
    return runs


def _usage(name: str, state: str, job: Mapping[str, str], steps: Iterable[Mapping[str, str]]) -> Usage:
    had, limit = _resources(job["AllocTRES"]), job["TimelimitRaw"]
    peaks = [_megabytes(used["mem"]) for step in steps if "mem" in (used := _resources(step["TRESUsageInTot"]))]
    nodes = int(had.get("node") or job["AllocNodes"] or 0)
    return Usage(
        rule=name.partition(".")[0],
        job=name,
        job_id=job["JobID"],
        state=state,
        nodes=nodes,
        cpus=int(had.get("cpu", 0)),
        gpus=int(had.get("gres/gpu", 0)),
        minutes_asked=float(limit) if limit.isdigit() else None,
        minutes_used=int(job["ElapsedRaw"] or 0) / 60,
        mem_mb_asked=_megabytes(had["mem"]) / nodes if nodes and "mem" in had else None,
        mem_mb_used=max(peaks) / nodes if nodes and peaks else None,
        cpu_minutes_used=_seconds(job["TotalCPU"]) / 60,
    )


def _resources(text: str) -> dict[str, str]:
    return dict(item.split("=", 1) for item in text.split(",") if "=" in item)


def _megabytes(text: str) -> float:
    unit = text[-1:] if text[-1:].isalpha() else ""
    return float(text.removesuffix(unit)) * MB[unit]


def _seconds(text: str) -> float:
    """Convert [days-][hours:]minutes:seconds to seconds."""
    days, _, clock = text.rpartition("-")
    seconds = 0.0
    for part in clock.split(":"):
        seconds = 60 * seconds + float(part or 0)
    return 86_400 * int(days or 0) + seconds


def summarise(usages: Sequence[Usage]) -> str:
    """Return a table with one row per rule."""
    from tabulate import tabulate

    rows = []
    for rule in dict.fromkeys(usage.rule for usage in usages):
        runs = [usage for usage in usages if usage.rule == rule]
        completed = sum(usage.state == "COMPLETED" for usage in runs)
        mem_asked, mem_used = _maximum(u.mem_mb_asked for u in runs), _maximum(u.mem_mb_used for u in runs)
        cpu_minutes = sum(u.cpus * u.minutes_used for u in runs)
        rows.append(
            [
                rule,
                len(runs),
                len(runs) - completed,
                _maximum(u.minutes_asked for u in runs),
                _maximum(u.minutes_used for u in runs),
                mem_asked,
                mem_used,
                _percent(mem_used, mem_asked),
                _percent(sum(u.cpu_minutes_used for u in runs), cpu_minutes),
                sum(u.gpus * u.minutes_used for u in runs) / 60,
            ]
        )
    digits = ("", "", "", ".0f", ".1f", ".0f", ".0f", ".0f", ".0f", ".1f")
    return tabulate(rows, headers=HEADERS, floatfmt=digits, missingval="-")


def _maximum(numbers: Iterable[float | None]) -> float | None:
    return max((number for number in numbers if number is not None), default=None)


def _percent(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else 100 * part / whole


def write_report(folder: Path, names: Mapping[str, str], pooled: Mapping[Path, str], *, patience_s: float = 0.0) -> str:
    """Write a table of all runs and a summary by rule into the executor's folder; return the text to show the user.

    Args:
        folder: the executor's folder.
        names: names of the jobs, by id.
        pooled: names of the jobs that ran in pools, by their folders.
        patience_s: longest wait for accounting, which lags behind.

    Raises:
        OSError: if the folder cannot be written to.
    """
    deadline = time.monotonic() + patience_s
    try:
        usages = read_usage(names)
        while _ended(usages) < len(names) and time.monotonic() < deadline:
            time.sleep(1)
            usages = read_usage(names)
    except NoAccountingError as err:
        return f"no efficiency report: {err}"
    unknown = len(names) - _ended(usages)
    usages += read_pooled_usage(pooled)
    note = f"\n{unknown} of {len(names)} jobs are missing: still running, or not in Slurm's accounting." if unknown else ""
    if not usages:
        return f"no efficiency report: Slurm's accounting knows none of {len(names)} jobs"
    summary = f"{summarise(usages)}{note}\n"
    write_file(folder / SUMMARY, summary)
    write_file(folder / TABLE, _table(usages))
    return f"{summary}Each run: {folder / TABLE}"


def _ended(usages: Iterable[Usage]) -> int:
    return len({usage.job_id for usage in usages if usage.state != "REQUEUED"})


def _table(usages: Iterable[Usage]) -> str:
    columns = [column.name for column in fields(Usage)]
    lines = ["\t".join(columns)]
    for usage in usages:
        values = (getattr(usage, column) for column in columns)
        lines.append("\t".join("" if v is None else f"{v:.2f}" if isinstance(v, float) else str(v) for v in values))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Report on the jobs of a folder."""
    parser = argparse.ArgumentParser(
        prog="python -m snakemake_executor_plugin_submitit.tracking.efficiency",
        description="Compare what Slurm jobs requested with what they used, by rule; needs Slurm's accounting (sacct).",
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path(".snakemake/submitit"), help="the executor's folder (.snakemake/submitit)"
    )
    folder = parser.parse_args().folder
    names = find_jobs(folder)
    if not names:
        sys.exit(f"{folder}: there are no logs of jobs here; give the folder of --submitit-folder")
    try:
        print(write_report(folder, names, find_pooled(folder)))
    except OSError as err:
        sys.exit(f"{folder}: cannot write the report: {err.strerror}")


if __name__ == "__main__":
    main()
