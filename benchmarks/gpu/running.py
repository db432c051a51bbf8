"""Run the commands of a part, each in a process group of its own, within the part's time. Imports no torch."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.parts import Command, Part
from benchmarks.gpu.records import ROOT

TAIL = 40  # lines of the output that are kept


@dataclass(frozen=True)
class Environments:
    """Variables of the commands: of those that take the GPU as it is, and of pytest, which gives tests a fake one by itself."""

    figures: Mapping[str, str]
    tests: Mapping[str, str]


def run_part(
    part: Part,
    environments: Environments,
    known: Mapping[str, dict[str, Any]],
    keep: Callable[[dict[str, Any]], None],
    *,
    limit_s: float,
    short: bool,
) -> bool:
    """Run a part; return whether all of it ended well.

    Args:
        part: the part.
        environments: of its commands.
        known: results of earlier runs, by command; commands that ended well are not run again.
        keep: called after each command with the results of all so far, or the reasons why there are none.
        limit_s: time for all commands, if less than the part's own.
        short: whether to show only that it runs.
    """
    limit_s = min(limit_s, 60 * part.minutes)
    deadline = time.monotonic() + limit_s
    results = {name: result for name, result in known.items() if "error" not in result}
    for command in part.commands:
        if command.name in results:
            continue
        left_s = deadline - time.monotonic()
        if left_s > 0:
            results[command.name] = _run(command, environments, left_s, short=short)
        else:
            results[command.name] = {"error": f"not started: the {limit_s / 60:.1f} minutes of the part were over"}
        keep(results)
    return not any("error" in result for result in results.values())


def _run(command: Command, environments: Environments, limit_s: float, *, short: bool) -> dict[str, Any]:
    environment = environments.figures if command.has_figures else environments.tests
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "figures.json"
        status, output = _output_of(command.line(out, short=short), {**environment, **command.environment}, limit_s)
        figures = _read(out)
    result: dict[str, Any] = {"command": command.shown(short=short), "seconds": round(time.monotonic() - started, 1)}
    if figures is not None:
        result["figures"] = figures
    if status != 0:
        result["error"] = f"ended with status {status}" if status is not None else f"stopped after {limit_s:.0f} s"
    elif command.has_figures and figures is None:
        result["error"] = "wrote no figures"
    return result | ({"output": output} if "error" in result or not command.has_figures else {})


def _output_of(line: list[str], environment: Mapping[str, str], limit_s: float) -> tuple[int | None, list[str]]:
    """Show the output of a program as it comes; return its status, None if it was stopped, and the last lines."""
    process = subprocess.Popen(
        line,
        cwd=ROOT,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    stopped = threading.Event()

    def stop() -> None:
        stopped.set()
        _end(process)

    timer = threading.Timer(limit_s, stop)
    timer.start()
    tail: collections.deque[str] = collections.deque(maxlen=TAIL)
    try:
        assert process.stdout is not None
        for text in process.stdout:
            print(text, end="", flush=True)
            tail.append(text.rstrip("\n"))
        process.wait()
    finally:
        timer.cancel()
        _end(process)
    return (None if stopped.is_set() else process.returncode), list(tail)


def _end(process: subprocess.Popen[str]) -> None:
    """End a program and what it has started, which is one group of processes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
