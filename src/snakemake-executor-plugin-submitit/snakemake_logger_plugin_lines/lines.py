"""Turn Snakemake's log records into lines: one when a job starts, ends or fails; every warning, error and unknown message."""

import logging
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_lines.durations import duration
from snakemake_logger_plugin_lines.failure import reason
from snakemake_logger_plugin_lines.run import Run

Line = tuple[str, str]
"""Kind of the line, or level of the message, and its text."""

NOISE = (
    "Assuming unrestricted shared filesystem usage",
    "Building DAG of jobs",
    "Complete log(s): ",  # the summary names it
    "Conda environments: ignored",
    "Elapsed time: ",  # as the summary does
    "Group jobs: inactive",
    "Select jobs to execute",
    "Singularity containers: ignored",
    "Storing output in storage.",
    "Updating checkpoint dependencies.",
    "Using shell: ",
)
"""Beginnings of messages that readers of these lines do not need; Snakemake's log file has them. Unknown messages are printed."""
SILENT = {
    *(LogEvent.WORKFLOW_STARTED, LogEvent.JOB_STARTED, LogEvent.GROUP_INFO, LogEvent.RULEGRAPH, LogEvent.DEBUG_DAG),
}
"""Events that say nothing about the progress of a job."""


class Lines:
    """The lines of one run of Snakemake."""

    def __init__(self, as_block: Callable[[logging.LogRecord], str]) -> None:
        """Begin a run.

        Args:
            as_block: Snakemake's text of a record, for those without a line of their own.
        """
        self._as_block = as_block
        self._run = Run()
        self._starts_are_told = self._is_remote = False
        self._log_file = ""
        self._events: dict[Any, Callable[[logging.LogRecord], list[Line]]] = {
            LogEvent.RESOURCES_INFO: self._resources,
            LogEvent.RUN_INFO: self._planned,
            LogEvent.JOB_INFO: self._ready,
            LogEvent.JOB_FINISHED: self._finished,
            LogEvent.PROGRESS: self._progress,
            LogEvent.JOB_ERROR: self._failed,
            LogEvent.SHELLCMD: self._shell_command,
        }

    def of(self, record: logging.LogRecord) -> list[Line]:
        """Return the lines of a record, none if there is nothing to say."""
        event = getattr(record, "event", None)
        if event in SILENT:
            return []
        if event in self._events:
            return self._events[event](record)
        return self._message(record)

    def _summary(self) -> list[Line]:
        """Return how far the run has come; nothing if it had nothing to do."""
        run = self._run
        if not run.total:
            return []
        texts = [f"{run.done} of {run.total} steps done"]
        if run.failed:
            texts.append(f"{len(run.failed)} failed: {', '.join(run.failed)}")
        log = f"; full log: {self._log_file}" if self._log_file else ""
        return [("failed" if run.failed else "", f"{', '.join(texts)}, in {duration(time.time() - run.began)}{log}")]

    # --- events

    def _resources(self, record: logging.LogRecord) -> list[Line]:
        self._is_remote |= hasattr(record, "nodes")
        return []

    def _planned(self, record: logging.LogRecord) -> list[Line]:
        stats: Mapping[str, int] = record.stats  # type: ignore[attr-defined]
        self._run.plan({rule: count for rule, count in stats.items() if rule != "total"}, record.created)
        return []

    def _ready(self, record: logging.LogRecord) -> list[Line]:
        """Record a job that Snakemake has given to its executor; it starts now, unless the executor reports starts itself."""
        fields: Any = record
        label = " ".join([fields.rule_name, ",".join(map(str, dict(fields.wildcards or {}).values()))]).strip()
        is_target = not (fields.output or fields.shellcmd or fields.log)
        self._run.give_out(fields.jobid, label, fields.rule_name, is_target=is_target)
        if self._starts_are_told and not fields.local:
            return []
        lines = self._started({fields.jobid: ""}, record, "queued" if self._is_remote and not fields.local else "started")
        return [] if is_target else lines

    def _started(self, told: Mapping[Any, str], record: logging.LogRecord, kind: str = "started") -> list[Line]:
        """Note that jobs run; `told` says where, by Snakemake's number of the job."""
        jobs = [(self._run.start(jobid, record.created), where) for jobid, where in told.items()]
        return [self._line(kind, job.label, where, record.created) for job, where in jobs if job is not None]

    def _finished(self, record: logging.LogRecord) -> list[Line]:
        fields: Any = record
        job = self._run.finish(fields.job_id, record.created)
        if job is None or job.is_target:
            return []
        left = self._run.seconds_left(record.created)
        texts = [duration(job.seconds), f"about {duration(left)} left" if left else ""]
        return [self._line("done", job.label, ", ".join(filter(None, texts)), record.created)]

    def _progress(self, record: logging.LogRecord) -> list[Line]:
        self._run.correct(record.total)  # type: ignore[attr-defined]
        return []

    def _failed(self, record: logging.LogRecord) -> list[Line]:
        fields: Any = record
        job = self._run.fail(fields.jobid, record.created)
        label, took = (job.label, duration(job.seconds)) if job else (fields.rule_name, "")
        first = self._line("failed", label, took, record.created)
        return [first, *(("", f"    {line}") for line in reason(fields.rule_msg, fields.log, fields.aux))]

    def _shell_command(self, record: logging.LogRecord) -> list[Line]:
        return [("", f"    {command}")] if (command := getattr(record, "shellcmd", None) or getattr(record, "cmd", None)) else []

    # --- messages, and events without a line

    def _message(self, record: logging.LogRecord) -> list[Line]:
        text = self._as_block(record)
        if record.levelno >= logging.WARNING:
            return [(record.levelname, text)]
        if retried := re.fullmatch(r"Trying to restart job (\S+)\.", text):
            return [self._line("again", self._run.label(retried[1]), "", record.created)]
        if text.startswith("Complete log(s): "):
            self._log_file = _relative(text.partition(": ")[2])
        if text.startswith("Elapsed time: "):
            return self._summary()
        is_noise = not text or text == "None" or text.startswith(NOISE)
        return self._told(record, [] if is_noise else [("", text)])

    def _told(self, record: logging.LogRecord, lines: list[Line]) -> list[Line]:
        """Handle what a workflow or an executor attaches to a message; `lines` are those of its text."""
        said = record.__dict__
        if "expected" in said:
            self._run.expect(said["expected"]["seconds"], said["expected"]["cached"], said["expected"].get("target"))
        if "starts_are_told" in said:
            self._starts_are_told = True
            return []
        if "jobs_running" in said:
            return self._started(said["jobs_running"], record)
        return self._queued(said["jobs_queued"], record) if "jobs_queued" in said else lines

    def _queued(self, queued: Mapping[Any, str], record: logging.LogRecord) -> list[Line]:
        labels = [self._run.label(jobid) for jobid in queued]
        (first, *others) = queued.values()
        what = labels[0] if not others else f"{len(labels)} jobs"
        return [self._line("queued", what, first if not others else f"{first} and following", record.created)]

    def _line(self, kind: str, label: str, more: str, now: float) -> Line:
        width = len(str(self._run.total))
        clock = time.strftime("%H:%M:%S", time.localtime(now))
        count = f"{self._run.done:>{width}}/{self._run.total}"
        return kind, f"{clock}  {count}  {kind:7}  {label}{f'  ({more})' if more else ''}"


def _relative(path: str) -> str:
    """Return a path as seen from the working directory, where that is shorter."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path
