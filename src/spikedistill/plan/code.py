"""The code that makes a result, as part of its id: versions of files, or digests of those that somebody edited. Imports no torch.

`components.lock` has a line for every file whose code can change a result: a digest of its syntax tree (comments, docstrings and
formatting left out) and a version. As long as the digest of a file is the one in the lock, the file counts by its version; if it
was edited, or is part of a plug-in, it counts by its digest. So a refactoring that keeps results keeps ids (it is locked anew
under its version), an edited loss gives new ids by itself, and nobody has to remember anything.

The files of a stage are the module of the stage, those of the components that it uses, and all that these import, within the
rooms that compute. Of a plug-in, the `__init__.py` of the packages that these lie in are files of the stage, too: they run first.
Version 1 is left out of a spec, so that a file that is split off or added changes no id.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikedistill.components import unknown
from spikedistill.errors import ConfigError
from spikedistill.plugins import COMPUTING, OWN, PACKAGE, file_of, source_of
from spikedistill.store.atomic import write_text

LOCK = Path(__file__).parents[1] / "components.lock"
NEUTRAL = frozenset(
    f"{PACKAGE}.{name}"
    for name in (
        "data.malloc",
        "distill.method_inputs",
        "evaluate.settings",
        "models.imported.settings",
        "models.settings",
        "neurons.settings",
        "stages.runner",
        "train.interrupt",
        "train.settings",
        "train.tracking",
    )
)
"""Modules of these rooms whose code changes no result: what they hold is in the spec itself, or is about speed and logging."""


@dataclass(frozen=True)
class _Source:
    """One file: the digest of its syntax tree, and the modules that it imports."""

    tree: str
    imports: tuple[str, ...]


@functools.cache
def code_of(modules: tuple[str, ...]) -> dict[str, str]:
    """Return what a spec records about the code of some modules and of all that they import: module -> version or digest.

    Args:
        modules: dotted names, such as `spikedistill.stages.distill`.

    Returns:
        An entry for each file that is at another version than 1 (as `v2`), or that is not as locked (its digest).
    """
    found = {}
    for module in closure(modules):
        entry = _entry(module)
        if entry != "v1":
            found[_short(module)] = entry
    return dict(sorted(found.items()))


def code_changes(planned: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return what differs between the code of a plan and the current code, one line per module."""
    return [
        f"{module} ({describe_code(module, planned.get(module))} when planned, {describe_code(module, now.get(module))} now)"
        for module in sorted(planned.keys() | now.keys())
        if planned.get(module) != now.get(module)
    ]


def describe_code(module: str, entry: str | None) -> str:
    """Return an entry of `code_of` in words."""
    if not is_released(module):
        return f"of a plug-in, {entry[:8]}" if entry else "not used"
    if entry is None or entry.startswith("v"):
        return f"version {(entry or 'v1')[1:]}"
    return f"edited, {entry[:8]}"


def is_released(module: str) -> bool:
    """Return True for a module of this package, given as in `code_of`, and False for one of a plug-in."""
    return module.partition(".")[0] in COMPUTING


@functools.cache
def closure(modules: tuple[str, ...]) -> frozenset[str]:
    """Return some modules and all that they import, directly or not, within the rooms that compute."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in found and module not in NEUTRAL:
            found.add(module)
            waiting += (*_imports(module), *_packages(module))
    return frozenset(found)


def _packages(module: str) -> Iterator[str]:
    """Yield the packages of a plug-in that a module lies in, as far as their `__init__.py` has code."""
    source = source_of(module)
    if source is None or source == OWN:
        return
    inner = module.removeprefix(source.package).split(".")[1:]
    for package in (".".join((source.package, *inner[:depth])) for depth in range(len(inner))):
        if file_of(package).is_file() and _source(package).tree != digest_of(""):
            yield package


def digest_of(text: str) -> str:
    """Return the digest of the syntax tree of a source: equal for sources that differ in comments, docstrings and formatting."""
    return _digest_of_tree(ast.parse(text))


def _digest_of_tree(tree: ast.Module) -> str:
    return _bytes_digest(json.dumps(_plain(tree), separators=(",", ":")).encode())


def lockable() -> dict[str, Path]:
    """Return every module of the package that belongs in the lock, with its file."""
    root = LOCK.parent
    files = (file for room in COMPUTING for file in sorted((root / room).rglob("*.py")) if file.name != "__init__.py")
    named = {".".join((PACKAGE, *file.relative_to(root).with_suffix("").parts)): file for file in files}
    return {module: file for module, file in named.items() if module not in NEUTRAL}


def lock(keep: Sequence[str], bump: Sequence[str]) -> None:
    """Write the lock again for some modules; the lines of all others stay as they are.

    Args:
        keep: modules, such as `distill.kd`, whose results are the same: new digest, same version. "all" for all.
        bump: modules whose results change: new digest, next version.

    Raises:
        ConfigError: if there is no such module.
    """
    there = {_short(module): file for module, file in lockable().items()}
    known = {module: entry for module, entry in _lock().items() if module in there or ("all" not in keep and module not in keep)}
    for module in (*(there if "all" in keep else keep), *bump):
        if module in there:
            version = known.get(module, {}).get("version", 0 if module in bump else 1) + (module in bump)
            content = there[module].read_bytes()
            source = _parse(f"{PACKAGE}.{module}", content.decode("utf-8"))
            entry = {"version": version, "tree": source.tree, "bytes": _bytes_digest(content), "imports": list(source.imports)}
            known[module] = entry
        elif module not in _lock():
            raise ConfigError(unknown("module", module, there))
    lines = [f"{json.dumps(module)}: {json.dumps(known[module])}" for module in sorted(known)]
    write_text(LOCK, "{\n" + ",\n".join(lines) + "\n}\n")
    for cache in (_lock, _matches_bytes, _source, closure, code_of):
        cache.cache_clear()


def unlocked() -> dict[str, str]:
    """Return the modules whose files do not match the lock, each with the reason; empty in a release."""
    known, found = _lock(), {}
    for module in lockable():
        short = _short(module)
        if short not in known:
            found[short] = "is not in the lock"
        elif not _entry(module).startswith("v"):
            found[short] = "was edited"
    gone = known.keys() - {_short(module) for module in lockable()}
    return found | dict.fromkeys(sorted(gone), "is gone")


def _entry(module: str) -> str:
    locked = _lock().get(_short(module), {}) if module.startswith(f"{PACKAGE}.") else {}
    if locked and _matches_bytes(module):
        return f"v{locked['version']}"
    source = _source(module)
    return f"v{locked['version']}" if locked.get("tree") == source.tree else source.tree


def _imports(module: str) -> tuple[str, ...]:
    locked = _lock().get(_short(module), {})
    return tuple(locked["imports"]) if locked and _matches_bytes(module) else _source(module).imports


def _short(module: str) -> str:
    """Return the name of a module as the lock and the specs have it: without that of the package."""
    return module.removeprefix(f"{PACKAGE}.")


@functools.cache
def _lock() -> dict[str, dict[str, Any]]:
    return json.loads(LOCK.read_text(encoding="utf-8")) if LOCK.is_file() else {}


@functools.cache
def _matches_bytes(module: str) -> bool:
    """Return True if the file is byte for byte the locked one: the usual case, which spares parsing it."""
    locked = _lock()[_short(module)]
    return _bytes_digest(file_of(module).read_bytes()) == locked["bytes"]


def _bytes_digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


@functools.cache
def _source(module: str) -> _Source:
    file = file_of(module)
    try:
        return _parse(module, file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as err:
        raise ConfigError(f"{file} cannot be read: {err}") from err


def _parse(module: str, text: str) -> _Source:
    tree = ast.parse(text)
    return _Source(_digest_of_tree(tree), tuple(sorted(set(_imported(tree, module)) - {module})))


def _imported(tree: ast.Module, module: str) -> Iterator[str]:
    """Yield the modules of the rooms that compute, and of plug-ins, which a file imports, wherever the statement stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = _absolute(node, module)
            for alias in node.names:
                yield from _resolved(base, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                parent, _, last = alias.name.rpartition(".")
                yield from _resolved(parent, last)


def _absolute(node: ast.ImportFrom, module: str) -> str:
    """Return the dotted name that an import in `module` is from; a relative one counts from the folder of its file."""
    if not node.level:
        return node.module or ""
    package = module.split(".")[: len(module.split(".")) - node.level + (file_of(module).name == "__init__.py")]
    return ".".join([*package, *([node.module] if node.module else [])])


def _resolved(module: str, name: str) -> Iterator[str]:
    """Yield the modules that `from module import name` reads, if they are of a room that computes or of a plug-in.

    For `import name`, `module` is empty.
    """
    parts = module.split(".")
    if parts[0] != PACKAGE:
        whole = f"{module}.{name}" if module else name
        source = source_of(whole)
        if source is not None and source != OWN:
            yield from (each for each in (whole, module) if source_of(each) == source and file_of(each).is_file())
        return
    if len(parts) > 1 and parts[1] not in COMPUTING:
        return
    submodule = f"{module}.{name}"
    if _is_module(submodule):
        if submodule.split(".")[1] in COMPUTING:
            yield submodule
    elif len(parts) > 1 and _is_module(module):
        yield module
    else:
        yield from (each for each in _offered(module).get(name, ()) if each.split(".")[1] in COMPUTING)


@functools.cache
def _offered(package: str) -> dict[str, tuple[str, ...]]:
    """Return the names that a package of ours imports from its modules, to offer them itself: name -> modules."""
    found: dict[str, tuple[str, ...]] = {}
    for node in ast.walk(ast.parse(file_of(package).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{PACKAGE}."):
            found |= {alias.name: (*found.get(alias.name, ()), node.module) for alias in node.names}
    return found


def _is_module(name: str) -> bool:
    """Return True for a module of this package that is a file of its own: no room."""
    return LOCK.parent.joinpath(*name.split(".")[1:]).with_suffix(".py").is_file()


def _plain(node: Any) -> Any:
    """Return a syntax tree as lists: without places, docstrings and empty fields, and so the same under every Python."""
    if isinstance(node, ast.AST):
        fields = [(name, _plain(value)) for name, value in ast.iter_fields(node) if name not in ("ctx", "kind", "type_ignores")]
        return [type(node).__name__, *([name, value] for name, value in fields if value not in (None, []))]
    if isinstance(node, list):
        return [_plain(each) for each in node if not _is_docstring(each) and not _is_architecture_table(each)]
    if isinstance(node, int | str | bool) or node is None:
        return node
    return repr(node)  # floats, complex numbers, bytes, ...


def _is_docstring(node: Any) -> bool:
    """Return True for a statement that is only text: a docstring, also of an attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_architecture_table(node: Any) -> bool:
    """Return True for the table of architectures: the entry that a network is built from is in its spec."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(isinstance(target, ast.Name) and target.id == "ARCHITECTURES" for target in targets)
