"""Bounds of what a training step asks of the host: kernels that are started, calls of libraries, copies and memsets.

`python -m tests.gpu.bounds` measures them again and writes bounds.json: after a change that means to need fewer, or has to need
more, of them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch

from tests.gpu.fake.counts import Counted

FILE = Path(__file__).with_name("bounds.json")
WRITES = "WRITE_GPU_BOUNDS"
KINDS = ("launches", "library_calls", "copies", "memsets")
SLACK, OTHER_TORCH_SLACK = 1.05, 1.3
"""Largest ratio of what is counted to its bound; versions of torch differ in what they launch."""


def check_bounds(name: str, counted: Counted) -> None:
    """Assert that a step stays within the bounds of that name, or write them."""
    found = {kind: counted.by_kind[kind] for kind in KINDS}
    bounds = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    if os.environ.get(WRITES):
        written = sorted((bounds | {"torch": _torch(), name: found}).items())
        rows = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in written)
        FILE.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
        return
    slack = SLACK if bounds["torch"] == _torch() else OTHER_TORCH_SLACK
    assert name in bounds, f"no bounds for {name}; write them with `python -m tests.gpu.bounds`"
    over = {kind: (number, bounds[name][kind]) for kind, number in found.items() if number > slack * bounds[name][kind]}
    assert not over, f"{name}: more than the bounds: {over}; if it has to be, write them with `python -m tests.gpu.bounds`"


def _torch() -> str:
    """Return the minor version of torch, such as 2.15."""
    return ".".join(torch.__version__.split(".")[:2])


def main() -> int:
    """Write the bounds of all tests anew."""
    os.environ[WRITES] = "1"
    FILE.unlink(missing_ok=True)
    return pytest.main(["-q", str(FILE.parent)])


if __name__ == "__main__":
    sys.exit(main())
