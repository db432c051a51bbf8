"""Run Snakemake and other commands as a user would: as processes, in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
TIMEOUT_S = 900


def environment(**extra: str) -> dict[str, str]:
    """Return the environment of a user's shell with this Python's commands on the path."""
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **extra}


def run(folder: Path, *command: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder; stderr is part of the output."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(**extra),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
    )


def snakemake(folder: Path, *arguments: str, cluster: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run Snakemake with the submitit executor on a plain Snakefile in `folder`."""
    flags = ["--executor", "submitit", "--submitit-cluster", cluster, "--jobs", "8", "--latency-wait", "5"]
    return run(folder, "snakemake", *flags, *arguments, **extra)
