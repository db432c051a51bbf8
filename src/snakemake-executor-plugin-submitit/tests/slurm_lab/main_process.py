"""Snakemake's main process in the background: what the tests of faults start, kill, and wait for."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

from slurm_lab.running import environment

FLAGS = ("--executor", "submitit", "--jobs", "60", "--latency-wait", "5", "--rerun-incomplete", "--submitit-poll-seconds", "3")


def wait_for(condition, timeout_s: float = 60.0, what: str | Callable[[], str] = "it") -> None:
    """Wait until a condition holds; `what` describes it in the message, as text or as a function called on timeout."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what() if callable(what) else what}"
        time.sleep(0.2)


def write_snakefile(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Snakefile").write_text(textwrap.dedent(text))


class Main:
    """One `snakemake --executor submitit …` in a session of its own; its output goes to a file."""

    def __init__(self, cluster, folder: Path, *arguments: str, path: Path | None = None, **extra: str) -> None:
        """Start; `path`: a folder of programs that take precedence over Slurm's own."""
        self.folder = folder
        count = len(list(folder.glob("main-*.out")))
        self._log = folder / f"main-{count}.out"
        variables = environment(**cluster.environment, **extra)
        if path is not None:
            variables["PATH"] = f"{path}{os.pathsep}{variables['PATH']}"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                ["snakemake", *FLAGS, *arguments],
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_obey_signals,
            )

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def wait(self, timeout_s: float = 240.0) -> int:
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the main process did not end in {timeout_s} s:\n{self.output}") from None

    def succeeds(self, timeout_s: float = 240.0) -> str:
        assert self.wait(timeout_s) == 0, self.output
        return self.output

    def fails(self, timeout_s: float = 240.0) -> str:
        assert self.wait(timeout_s) != 0, self.output
        return self.output

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def interrupt(self) -> float:
        """Send SIGINT to every process of the group, as Ctrl-C in a terminal does; return the seconds until it ended."""
        started = time.monotonic()
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(60)
        return time.monotonic() - started


def _obey_signals() -> None:
    """Restore these signals: a shell that starts the tests in the background, or with nohup, has them ignored."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def write_program(folder: Path, name: str, text: str) -> Path:
    """Write a program that shadows Slurm's own of the same name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(textwrap.dedent(text))
    path.chmod(0o755)
    return folder
