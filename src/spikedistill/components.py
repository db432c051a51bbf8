"""Look-up of methods, datasets and architectures by file name. Imports no torch.

A component is a file whose stem is its name in the config, where "-" and "_" are equivalent. Architectures are the keys of the
literal `ARCHITECTURES` tables in the files of `models/`, which are read without importing these files.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Kind = Literal["distill", "data.datasets"]

_ROOT = Path(__file__).parent


class Section(BaseModel):
    """Base of every section of the configuration: immutable; an unknown key or a number that is not finite is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ComponentParams(Section):
    """Base of a component's parameters."""


def canonical(name: str) -> str:
    """Return the name of a component as ids and messages have it, with "-" for "_"."""
    return name.replace("_", "-")


def stem(name: str) -> str:
    """Return the file stem of the component called `name` in the config."""
    return name.replace("-", "_")


@functools.cache
def names(kind: Kind) -> tuple[str, ...]:
    """Return the sorted names of all components of a kind: the files that define a class `Params`."""
    folder = _ROOT.joinpath(*kind.split("."))
    return tuple(sorted(canonical(f.stem) for f in folder.glob("*.py") if _defines_params(f)))


def _defines_params(file: Path) -> bool:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return any(isinstance(node, ast.ClassDef) and node.name == "Params" for node in tree.body)


def load(kind: Kind, name: str) -> ModuleType:
    """Import one component.

    Raises:
        KeyError: if no component has that name; see `names` and `unknown`.
    """
    if canonical(name) not in names(kind):
        raise KeyError(name)
    return importlib.import_module(f"spikedistill.{kind}.{stem(name)}")


@functools.cache
def architectures() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return all architectures: name -> (module of `models/` that defines it, its entry in the table)."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for file in sorted((_ROOT / "models").glob("*.py")):
        for name, entry in _architecture_table(file).items():
            if name in found:
                raise ValueError(f"architecture {name} is defined in models/{found[name][0]}.py and models/{file.name}")
            found[name] = (file.stem, entry)
    return found


def _architecture_table(file: Path) -> dict[str, dict[str, Any]]:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        if any(isinstance(t, ast.Name) and t.id == "ARCHITECTURES" for t in targets):
            assert isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
            return ast.literal_eval(node.value)
    return {}


def matching(name: str, refs: Iterable[str]) -> list[str]:
    """Return the references `<kind>/<name>` that equal a name, given with or without its kind, or else begin with it."""
    ways = {ref: (ref, ref.partition("/")[2]) for ref in refs}
    exact = [ref for ref, names in ways.items() if name in names]
    return exact or [ref for ref, names in ways.items() if any(each.startswith(name) for each in names)]


def unknown(what: str, name: str, allowed: Iterable[str]) -> str:
    """Return a message about an unknown name, with the allowed names and the most similar one."""
    options = sorted(allowed)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"unknown {what} {name!r}.{hint} Allowed: {', '.join(options)}"
