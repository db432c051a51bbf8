"""Facts about a run for its manifest: code, packages, machine and time. Imports no torch."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import spikedistill

STARTS = "starts.jsonl"
"""In the work folder of a stage: one line for each time that it was started."""
PACKAGES = ("torch", "torchvision", "spikingjelly", "numpy", "scikit-learn", "snakemake", "submitit")


class Clock:
    """A clock that measures a stage from its construction on."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._started = datetime.datetime.now(datetime.UTC)

    def provenance(self, *, device: str, world_size: int) -> dict[str, Any]:
        """Return the facts about this run that its manifest records.

        Args:
            device: where it ran: "cpu" or the name of the GPU.
            world_size: number of ranks.
        """
        wall_s = time.monotonic() - self._start
        return {
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "started": self._started.isoformat(timespec="seconds"),
            "wall_s": round(wall_s, 3),
            "gpu_hours": 0.0 if device == "cpu" else round(wall_s * world_size / 3600, 6),
            "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "peak_gpu_memory_mib": _peak_gpu_memory_mib(),
            "world_size": world_size,
            "device": device,
            "host": socket.gethostname(),
            "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
            "spikedistill": {"version": spikedistill.__version__, **_git_state()},
            "command": sys.argv[:2],
        }


def commit_of(manifest: Mapping[str, Any]) -> str:
    """Return the commit of spikedistill that made an artifact, in words."""
    own = manifest["spikedistill"]
    return (own.get("commit") or "not from a git checkout") + (" with uncommitted changes" if own.get("dirty") else "")


def record_start(work: Path, upstream: Collection[str]) -> int:
    """Record a start of a stage, with the artifacts that it reads, in its work folder; return the number of starts so far."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    line = {"started": now, "host": socket.gethostname(), "upstream": list(upstream)}
    with (work / STARTS).open("a+", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")
        stream.seek(0)
        return sum(1 for _ in stream)


def _peak_gpu_memory_mib() -> float | None:
    """Return the peak of memory allocated on this process's GPU, or None if it used none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return round(torch.cuda.max_memory_allocated() / 2**20, 1)


def _git_state() -> dict[str, Any]:
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return {"commit": None, "dirty": None}
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
