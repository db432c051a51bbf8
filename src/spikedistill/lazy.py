"""Imports on first use, so that importing a component for its name and parameters does not import torch.

`snakemake -n` imports every component that the config names; with torch, it would take more than twice as long.
Write `from spikedistill.lazy import torch` in modules that use torch inside functions and in annotations only.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

__all__ = ["exports", "package_folder", "torch"]

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


def exports(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a package whose public names are imported on first use (PEP 562).

    Args:
        package: `__name__` of the package.
        modules: public name -> module that defines it, relative to the package.
    """

    def getattr_(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    def dir_() -> list[str]:
        return sorted(modules)

    return getattr_, dir_


def package_folder(name: str) -> Path | None:
    """Return the folder of an installed package without importing it; None if there is none."""
    spec = importlib.util.find_spec(name)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent
