"""Look-up of components (methods, datasets, architectures, …) by name, in this package and in plug-ins. Imports no torch.

A component is a file whose stem is its name in the config, where "-" and "_" are equivalent. It lies in the folder of its kind:
`distill/`, `data/datasets/` (in a plug-in: `datasets/`), `neurons/kinds/` (`neurons/`), `train/optimizers/` (`optimizers/`),
`train/schedules/` (`schedules/`) or `models/`. Architectures are the keys of the literal `ARCHITECTURES` tables in the files of
`models/`, which are read without importing these files. A file there with a literal `ZOO = "NAME"` is an adapter to the models
of another library, called `NAME/MODEL`; see `architecture`. So is one in `neurons/kinds/`; see `load`.
"""

from __future__ import annotations

import ast
import difflib
import fnmatch
import functools
import importlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from spikedistill import plugins
from spikedistill.errors import ConfigError, UnknownComponentError
from spikedistill.plugins import Source

Kind = Literal["distill", "data.datasets", "neurons.kinds", "train.optimizers", "train.schedules"]

CONTRACT: dict[str, tuple[str, ...]] = {
    "distill": ("Params", "needs", "loss"),
    "data.datasets": ("Params", "NEEDS_RAW", "describe", "prepare"),
    "train.optimizers": ("Params", "build"),
    "train.schedules": ("Params", "factor"),
    "neurons.kinds": ("Params", "USES", "SUPPORTS", "build"),
    "models": ("build",),
}
"""What the files of each room define, see docs/extending.md."""
INSTEAD = {"build": "build_multi_step"}
"""What a file may define in place of a required name: networks that run all time steps at once are built differently."""
WHAT: dict[str, str] = {
    "distill": "method",
    "data.datasets": "dataset",
    "neurons.kinds": "neuron",
    "train.optimizers": "optimizer",
    "train.schedules": "schedule",
    "models": "architecture",
}
"""What a component of each kind is called in messages."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_NAMED_IN_ARTIFACTS = ("distill", "data.datasets")  # and architectures, of which a file has several
MAX_LISTED = 200
"""Maximum number of names that a message lists."""


class Section(BaseModel):
    """Base of every section of the configuration: immutable; an unknown key or a number that is not finite is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_booleans_for_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what would count as 0 or 1, such as a YAML `yes`."""
        found = list(_booleans((), value))
        if found and _takes_no_booleans(cls.model_fields[str(info.field_name)].annotation):
            expected = PydanticCustomError("number", "a number is expected")
            faults = [InitErrorDetails(type=expected, loc=key, input=boolean) for key, boolean in found]
            raise ValidationError.from_exception_data(cls.__name__, faults)
        return value


def _takes_no_booleans(annotation: Any) -> bool:
    """Return True if a field takes numbers, perhaps in lists and mappings or beside text, and so no booleans."""
    kinds = set(_leaves(annotation))
    return bool(kinds & {int, float}) and kinds <= {int, float, str, type(None), ...}


def _leaves(annotation: Any) -> Iterator[Any]:
    """Yield the types of the values that an annotation allows."""
    if get_origin(annotation) is Literal:
        yield from map(type, get_args(annotation))
    elif get_origin(annotation) is Annotated:
        yield from _leaves(get_args(annotation)[0])
    elif get_args(annotation):
        for member in get_args(annotation):
            yield from _leaves(member)
    else:
        yield annotation


def _booleans(key: tuple[str | int, ...], value: Any) -> Iterator[tuple[tuple[str | int, ...], bool]]:
    """Yield the booleans in a value, each with its key."""
    if isinstance(value, bool):
        yield key, value
    elif isinstance(value, Mapping | list | tuple):
        for name, member in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _booleans((*key, name), member)


class ComponentParams(Section):
    """Base of a component's parameters."""


class Choice(Section):
    """Base of a section that names a component and gives its parameters; those at their default are left out, also of ids."""

    KIND: ClassVar[Kind]

    name: str
    params: dict[str, Any] = Field({}, description="Its parameters.")

    @model_validator(mode="before")
    @classmethod
    def _is_section(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(f"a section is expected: {{name: {value}}}")
        return value

    @field_validator("name")
    @classmethod
    def _canonical(cls, value: str) -> str:
        return canonical(value)

    @field_validator("params")
    @classmethod
    def _without_defaults(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        """Leave invalid values as they are: `config.check` reports them, with their keys."""
        try:
            model = load(cls.KIND, info.data.get("name", "")).Params
            return model.model_validate(value).model_dump(mode="json", exclude_defaults=True)
        except (ConfigError, ValidationError):
            return value

    @property
    def component(self) -> ModuleType:
        """The module of the component."""
        return load(self.KIND, self.name)

    @property
    def checked_params(self) -> Any:
        """The parameters, as the component's `Params`."""
        return self.component.Params.model_validate(self.params)


class Architecture(NamedTuple):
    """One architecture: the dotted name of the module that builds it, and its entry in the table there."""

    module: str
    entry: dict[str, Any]


def canonical(name: str) -> str:
    """Return the name of a component as ids and messages have it, with "-" for "_"."""
    return name.replace("_", "-")


def names(kind: Kind) -> tuple[str, ...]:
    """Return the sorted names of all components of a kind: the files that define a class `Params`."""
    return tuple(sorted({name for source in plugins.sources() for name in _files(source, kind)}))


def names_in(source: Source, kind: Kind) -> tuple[str, ...]:
    """Return the sorted names of the components of a kind in this package or in one plug-in."""
    return tuple(sorted(_files(source, kind)))


def module_of(kind: Kind, name: str) -> str:
    """Return the dotted name of the module of a component.

    Raises:
        UnknownComponentError: if no component has that name.
        ConfigError: if more than one has it.
    """
    zoo, separator, _ = name.partition("/")
    if separator and zoo in (modules := zoos(kind)):
        return modules[zoo]
    found = canonical(name)
    places = {source: files[found] for source in plugins.sources() if found in (files := _files(source, kind))}
    if not places:
        raise UnknownComponentError(_unknown_component(kind, name))
    if len(places) > 1:
        raise ConfigError(_clash(WHAT[kind], found, places.values()))
    ((source, file),) = places.items()
    return source.module(file)


def load(kind: Kind, name: str) -> ModuleType:
    """Import one component; `ZOO/NAME` is what the adapter of another library offers in place of a module.

    Raises:
        UnknownComponentError: if no component has that name.
        ConfigError: if more than one has it, it cannot be imported, or it lacks something that its kind must define.
    """
    module = module_of(kind, name)
    if "/" not in name:
        return _import(module, kind)
    try:
        return _import(module, kind, ("names", "component")).component(name.partition("/")[2])
    except KeyError:
        raise UnknownComponentError(_unknown_component(kind, name)) from None


def architectures() -> dict[str, Architecture]:
    """Return all architectures that have tables, those of this package first; `architecture` finds those of zoos, too."""
    return {name: found[0] for name, found in _tables(plugins.sources()).items()}


def architecture(name: str) -> Architecture:
    """Return one architecture: of a table, or `ZOO/MODEL` of a zoo.

    Raises:
        UnknownComponentError: if there is none of that name.
        ConfigError: if more than one has it, or its zoo cannot be used.
    """
    zoo, separator, model = name.partition("/")
    try:
        if separator:
            module = zoos()[zoo]
            return Architecture(module, _import(module, "models").entry(model))
        found = _tables(plugins.sources())[name]
    except KeyError:
        raise UnknownComponentError(_unknown_architecture(name)) from None
    if len(found) > 1:
        raise ConfigError(_clash("architecture", name, (plugins.file_of(each.module) for each in found)))
    return found[0]


def zoos(kind: str = "models") -> dict[str, str]:
    """Return the adapters to the models, or other components, of other libraries: prefix of their names -> module."""
    return {
        zoo: source.module(file)
        for source in reversed(plugins.sources())
        for file in _python_files(source.room(kind))
        if (zoo := _zoo(file)) is not None
    }


def load_architecture(name: str) -> tuple[ModuleType, dict[str, Any]]:
    """Import the module of an architecture; return it and the entry of the architecture.

    Raises:
        UnknownComponentError: if there is none of that name.
        ConfigError: as `architecture`, or if the module cannot be imported or has no `build`.
    """
    found = architecture(name)
    return _import(found.module, "models"), found.entry


def zoo_names(zoo: str, kind: str = "models") -> tuple[str, ...]:
    """Return the names of the models, or other components, of a zoo, without its prefix."""
    return tuple(_import(zoos(kind)[zoo], kind, ("names",)).names())


def matching(name: str, refs: Iterable[str]) -> list[str]:
    """Return the references `<kind>/<name>` that equal a name, given with or without its kind, or else begin with it."""
    ways = {ref: (ref, ref.partition("/")[2]) for ref in refs}
    exact = [ref for ref, names in ways.items() if name in names]
    return exact or [ref for ref, names in ways.items() if any(each.startswith(name) for each in names)]


def fitting(pattern: str, refs: Iterable[str]) -> list[str] | None:
    """Return the references that fit a pattern with *, ? or [, with or without their kind; None if it is no pattern."""
    if not any(mark in pattern for mark in "*?["):
        return None
    return [ref for ref in refs if any(fnmatch.fnmatchcase(name, pattern) for name in (ref, ref.partition("/")[2]))]


def unknown(what: str, name: str, allowed: Iterable[str]) -> str:
    """Return a message about an unknown name, with the most similar one and the allowed names, of many only the closest."""
    options = sorted(allowed)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    if len(options) > MAX_LISTED:
        closest = difflib.get_close_matches(name, options, n=8, cutoff=0.0)
        return f"unknown {what} {name!r}.{hint} {len(options)} are allowed; the closest: {', '.join(closest)}"
    return f"unknown {what} {name!r}.{hint} Allowed: {', '.join(options)}"


@functools.cache
def _files(source: Source, kind: Kind) -> dict[str, Path]:
    """Return the files of a source that define a class `Params`, by name; one that cannot be parsed counts, too."""
    found = {}
    for file in _python_files(source.room(kind)):
        if _begins_a_line(file, "class Params") or _tree(file) is None:
            if kind in _NAMED_IN_ARTIFACTS and not _NAME.fullmatch(file.stem):
                continue  # such as `kd (copy).py`
            found[canonical(file.stem)] = file
    return found


@functools.cache
def _tables(sources: tuple[Source, ...]) -> dict[str, list[Architecture]]:
    found: dict[str, list[Architecture]] = {}
    for source in sources:
        for file in _python_files(source.room("models")):
            for name, entry in _table(file).items():
                found.setdefault(name, []).append(Architecture(source.module(file), entry))
    return found


def _table(file: Path) -> dict[str, dict[str, Any]]:
    """Return the architectures of a file: name -> entry."""
    table = _literal(file, "ARCHITECTURES")
    if table is None:
        return {}
    expected = f"{file}: ARCHITECTURES must map names to entries that JSON can hold, as in {{'mynet': {{'widths': [16, 32]}}}}"
    if not isinstance(table, dict):
        raise ConfigError(f"{expected}; found {table!r:.80}")
    for name, entry in table.items():
        if not (isinstance(name, str) and isinstance(entry, dict) and _is_json(entry)):
            raise ConfigError(f"{expected}; found {name!r:.80}: {entry!r:.80}")
        if not _NAME.fullmatch(name):
            why = "cannot name a component, as names of artifacts hold it: use letters, digits, - and _"
            raise ConfigError(f"{file}: ARCHITECTURES: {name!r:.80} {why}")
    return table


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _zoo(file: Path) -> str | None:
    """Return the prefix of the names of what an adapter offers, None for a file that is no adapter."""
    zoo = _literal(file, "ZOO")
    if zoo is None or isinstance(zoo, str):
        return zoo
    raise ConfigError(f"{file}: ZOO must be a text, the prefix of the names; found {zoo!r:.80}")


@functools.cache
def _python_files(folder: Path) -> tuple[Path, ...]:
    """Return the modules of a folder: not the links that editors leave there, such as `.#kd.py`."""
    return tuple(sorted(file for file in folder.glob("*.py") if not file.name.startswith(".") and file.is_file()))


@functools.cache
def _begins_a_line(file: Path, text: str) -> bool:
    """Return True if a line of a file begins with some words: a quick check that avoids parsing most files."""
    return re.search(rf"^{text}\b", _text(file, errors="replace"), re.MULTILINE) is not None


@functools.cache
def _tree(file: Path) -> ast.Module | None:
    """Return the syntax tree of a file, None if it cannot be parsed."""
    try:
        return ast.parse(_text(file))
    except (SyntaxError, ValueError):
        return None


def _text(file: Path, errors: str = "strict") -> str:
    try:
        return file.read_text(encoding="utf-8", errors=errors)
    except OSError as err:
        raise ConfigError(f"{file} cannot be read: {err.strerror}") from None


@functools.cache
def _literal(file: Path, name: str) -> Any:
    """Return the value of a literal at the top level of a file, None if there is none of that name or no way to parse it."""
    tree = _tree(file) if _begins_a_line(file, name) else None
    without_value = None
    for node in tree.body if tree else ():
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        if any(isinstance(t, ast.Name) and t.id == name for t in targets):
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            if node.value is not None:
                return _evaluated(node.value, f"{file}, line {node.lineno}: {name}")
            without_value = node
    if without_value is not None:
        raise ConfigError(f"{file}, line {without_value.lineno}: {name} has no value; a literal is expected")
    return None


def _evaluated(value: ast.expr, what: str) -> Any:
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):  # TypeError: a list as a key, for instance
        raise ConfigError(f"{what} must be a literal, which is read without running the file") from None


def _import(module: str, kind: str, contract: tuple[str, ...] | None = None) -> ModuleType:
    try:
        found = importlib.import_module(module)
    except Exception as err:
        raise ConfigError(plugins.import_failure(module, err)) from err
    promised = CONTRACT[kind] if contract is None else contract
    missing = [name for name in promised if not hasattr(found, name) and not hasattr(found, INSTEAD.get(name, name))]
    if missing:
        raise ConfigError(f"{plugins.file_of(module)}: {WHAT[kind]} without {', '.join(missing)}; see docs/extending.md")
    return found


def _clash(what: str, name: str, places: Iterable[Path]) -> str:
    return f"{what} {name!r} is defined more than once: {', '.join(map(str, places))}; rename all but one"


def _unknown_component(kind: Kind, name: str) -> str:
    """Return a message about a name that no component has."""
    zoo, separator, member = name.partition("/")
    if separator and zoo in zoos(kind):
        return unknown(f"{zoo} {WHAT[kind]}", member, zoo_names(zoo, kind))
    return unknown(WHAT[kind], name, [*names(kind), *(f"{each}/…" for each in zoos(kind))]) + _near_misses(kind, name)


def _unknown_architecture(name: str) -> str:
    """Return a message about a name that no architecture has."""
    zoo, separator, model = name.partition("/")
    if separator and zoo in zoos():
        return unknown(f"{zoo} model", model, zoo_names(zoo))
    allowed = [*architectures(), *(f"{each}/…" for each in zoos())]
    return unknown("architecture", name, allowed) + _near_misses("models", name)


def _near_misses(kind: str, name: str) -> str:
    """Return what files of plug-ins may explain a missing name: one without `Params`, those that cannot be parsed."""
    found = []
    for source in plugins.sources():
        for file in _python_files(source.room(kind)):
            if _tree(file) is None:
                found.append(f"{file} cannot be read: {plugins.parse_failure(file)}")
            elif kind != "models" and canonical(file.stem) == canonical(name):
                found.append(f"{file} has no class Params")
    return "".join(f". {each}" for each in found)
