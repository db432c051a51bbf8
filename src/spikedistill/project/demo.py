"""`spikedistill demo`: the workflow of the shipped configuration on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from spikedistill.errors import ConfigError
from spikedistill.project.create import create_project, project_files
from spikedistill.project.files import ROOT

PROFILE = "cluster/local"
RESULTS = Path("results")
"""Where the shipped configuration puts them."""


def run_demo(folder: Path, *, verbose: bool = False) -> int:
    """Make the demo's project in an empty folder, unless it is there already, and run it; return Snakemake's exit status.

    Args:
        folder: where.
        verbose: print Snakemake's own blocks and not a line when a stage starts or ends.

    Raises:
        ConfigError: if the folder holds anything else.
    """
    if not _is_demo(folder):
        _refuse_unless_empty(folder)
        print(f"A new project: {create_project(folder).resolve()}", flush=True)
    blocks = ("--logger-lines-blocks",) if verbose else ()
    status = _snakemake(folder, "--profile", PROFILE, *blocks)
    if status:
        return status
    report = RESULTS / "report.html"
    if not _is_newer(folder / report, folder / RESULTS / "results.html"):
        status = _snakemake(folder, "--report", str(report), "--logger", "lines", *blocks)
    print(f"\n{(folder / RESULTS / 'results.md').read_text(encoding='utf-8')}")
    print(f"On one page: {(folder / RESULTS / 'results.html').resolve()}")
    print(f"With run times and the workflow: {(folder / report).resolve()}")
    return status


def _is_demo(folder: Path) -> bool:
    """Tell whether a folder is a project of the shipped configuration, or the checkout, whose config.yaml is the demo's."""
    if folder.resolve() == ROOT.resolve():
        return True
    contents = project_files()
    return all(_content(folder / name) == contents[name] for name in ("Snakefile", "config.yaml"))


def _refuse_unless_empty(folder: Path) -> None:
    there = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith(".")) if folder.is_dir() else []
    if there:
        more = " …" if len(there) > 3 else ""
        raise ConfigError(
            f"{folder.resolve()} is not empty ({', '.join(there[:3])}{more}): name a new folder, as in `spikedistill demo NEW`; "
            f"a project of yours runs with `snakemake --profile {PROFILE}`"
        )


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None


def _is_newer(file: Path, other: Path) -> bool:
    return file.exists() and file.stat().st_mtime > other.stat().st_mtime


def _snakemake(folder: Path, *arguments: str) -> int:
    """Run Snakemake with this Python, whose commands its jobs find; it handles Ctrl-C itself, by cancelling its jobs."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    child: subprocess.Popen[bytes] | None = None

    def forward(number: int, frame: FrameType | None) -> None:
        if child is not None and number == signal.SIGTERM:  # a terminal sends SIGINT to both processes
            child.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        child = subprocess.Popen([sys.executable, "-m", "snakemake", *arguments], cwd=folder, env={**os.environ, "PATH": path})
        return child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
