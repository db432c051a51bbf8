"""Why a job failed, in few lines: what the executor says, and the end of the job's own log."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LAST_LINES = 15
LAST_BYTES = 32_000
GENERIC = "For further error details see the cluster/cloud log"
"""Beginning of a sentence that Snakemake appends to the message of every remote job."""


def reason(message: str | None, logs: Sequence[str], aux: Mapping[str, Any]) -> list[str]:
    """Return the lines that say why a job failed.

    Args:
        message: text of the executor. Its indented lines are the end of the job's output; they are left out if a log of the
            rule has that without Snakemake's blocks around it.
        logs: log files of the rule, and those that the executor adds.
        aux: further details from the executor, by name.
    """
    lines = [line.rstrip() for line in (message or "").splitlines() if line.strip() and not line.startswith(GENERIC)]
    ends = [line for log in logs for line in _end_of(Path(log))]
    if ends:
        lines = [line for line in lines if not line.startswith((" ", "last lines of "))]
    if not message:
        lines += [f"{name}: {value}" for name, value in aux.items()]
    return [*lines, *ends]


def _end_of(log: Path) -> list[str]:
    """Return the last lines of a log with a heading, none if there is no such file or it is empty."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - LAST_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    lines = [line for line in text.splitlines() if line.strip()][-LAST_LINES:]
    return [f"last lines of {log}:", *(f"    {line}" for line in lines)] if lines else []
