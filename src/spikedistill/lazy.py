"""Torch on first use, so that importing a component (for its name and parameters) stays free of it.

`snakemake -n` reads every component that the config names, and importing torch would more than double its time.
Write `from spikedistill.lazy import torch` where module level needs no more of torch than its name.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["torch"]

if TYPE_CHECKING:
    import torch
else:

    class _LazyModule:
        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            value = getattr(importlib.import_module(self._name), attribute)
            setattr(self, attribute, value)
            return value

    torch = _LazyModule("torch")
