"""The neurons of SpikingJelly and their arguments, read from its source files without importing it. Imports no torch."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from spikedistill.lazy import package_folder

TYPES: dict[str, Any] = {
    "float": float,
    "int": int,
    "bool": bool,
    "Optional[float]": float | None,
    "float | None": float | None,
    "Union[float, torch.Tensor]": float,
}
"""Plain types, by the annotation of an argument."""
IGNORED = frozenset({"self", "step_mode", "backend", "store_v_seq", "store_state_seqs", "surrogate_function"})
"""Arguments that are set here, or that have a parameter of their own."""
NOT_NEURONS = ("BaseNode", "NonSpiking", "Noisy")
"""Parts of the names of classes that are not complete spiking neurons."""


class Argument(NamedTuple):
    """One argument of a class."""

    name: str
    type: Any
    required: bool
    default: Any


@functools.cache
def classes() -> Mapping[str, tuple[Argument, ...]]:
    """Return the neurons that can be made from plain values, sorted, with their arguments; empty without SpikingJelly."""
    found = {}
    folder = _folder()
    for file in sorted((folder / "neuron").glob("*.py")) if folder else ():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        public = _public(tree)
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name in public and not any(part in node.name for part in NOT_NEURONS):
                arguments = _arguments(node)
                if arguments is not None:
                    found[node.name] = arguments
    return dict(sorted(found.items()))


@functools.cache
def surrogates() -> tuple[str, ...]:
    """Return the names of SpikingJelly's surrogate gradients."""
    folder = _folder()
    file = folder / "surrogate.py" if folder else None
    nodes = ast.parse(file.read_text(encoding="utf-8")).body if file and file.is_file() else []
    return tuple(
        sorted(
            node.name
            for node in nodes
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "SurrogateFunctionBase" for base in node.bases)
        )
    )


@functools.cache
def _folder() -> Path | None:
    package = package_folder("spikingjelly")
    return package and package / "activation_based"


def _public(tree: ast.Module) -> frozenset[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(each, ast.Name) and each.id == "__all__" for each in node.targets):
            return frozenset(ast.literal_eval(node.value))
    return frozenset()


def _arguments(node: ast.ClassDef) -> tuple[Argument, ...] | None:
    """Return the arguments of a class; None if a required one is not a plain value, or if it has no constructor of its own."""
    for each in node.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            if each.args.vararg or each.args.kwonlyargs:
                return None
            found = list(_plain(each.args))
            return None if None in found else tuple(argument for argument in found if argument is not None)
    return None


def _plain(given: ast.arguments) -> Iterator[Argument | None]:
    """Yield the arguments that are plain values, and None for a required one that is not."""
    defaults: list[ast.expr | None] = [*[None] * (len(given.args) - len(given.defaults)), *given.defaults]
    for argument, default in zip(given.args, defaults, strict=True):
        kind = TYPES.get(ast.unparse(argument.annotation)) if argument.annotation else None
        if argument.arg in IGNORED:
            continue
        if kind is None:
            if default is None:
                yield None
            continue
        value = None if default is None else _value(default)
        yield Argument(argument.arg, kind, default is None, float(value) if kind is float and value is not None else value)


def _value(default: ast.expr) -> Any:
    """Return the value of a default: a literal, or a quotient of two."""
    if isinstance(default, ast.BinOp) and isinstance(default.op, ast.Div):
        return _value(default.left) / _value(default.right)
    return ast.literal_eval(default)
