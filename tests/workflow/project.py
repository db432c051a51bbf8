"""A copy of the project as a user has it, to run workflows in."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


def copy_project(target: Path) -> Path:
    """Copy what git tracks, or would, into `target`."""
    listing = subprocess.run(
        [
            "git",
            "-C",
            ROOT,
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
            "Snakefile",
            "config.yaml",
            "workflow",
            "cluster",
            "envs",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listing.split("\0")):
        destination = target / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, destination)
    return target


def edit_profile(project: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change the profile of this machine in a copy of the project, as a user would in an editor."""
    file = project / "cluster/local/config.yaml"
    profile = yaml.safe_load(file.read_text(encoding="utf-8"))
    edit(profile)
    file.write_text(yaml.safe_dump(profile), encoding="utf-8")
