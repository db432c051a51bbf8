"""Folders with odd names, and disks that are full."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

ODD_NAME = """a "folder" (it's $HOME & `more`)"""
# the inputs, by their absolute paths, are words of the job's command
ODD_PLACE = """
    rule all:
        input: config["where"] + "/out.txt"
    rule two:
        input: config["where"] + "/a.txt"
        output: config["where"] + "/out.txt"
        shell: "spmd cp {input:q} {output:q}"
    rule one:
        output: config["where"] + "/a.txt"
        shell: "echo made > {output:q}"
"""


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """Mount a disk of a small size."""
    path.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)
