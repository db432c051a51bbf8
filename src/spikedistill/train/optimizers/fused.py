"""Whether the optimizers of torch can update parameters in one kernel. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def can_fuse(groups: Iterable[dict[str, Any]]) -> bool:
    """Return True if torch has a fused implementation for the parameters: floats on a CPU or a GPU."""
    return all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for group in groups for p in group["params"])
