"""The content id of an artifact: what is hashed, and how. Imports no torch.

A spec holds everything that changes a stage's result and nothing that does not: no paths, no number of GPUs, no number of
workers. The names of upstream artifacts, and with them their ids, are part of it. So equal ids mean equal work on every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

ID_LENGTH = 10


def content_id(spec: Mapping[str, Any]) -> str:
    """Return the first hex digits of the sha256 of a spec's canonical JSON.

    Args:
        spec: the whole spec as plain JSON values.
    """
    canonical = json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:ID_LENGTH]
