"""Plug-ins: packages and folders with components of others, beside those of this package. Imports no torch.

A plug-in has the rooms `distill/`, `datasets/`, `models/`, `neurons/`, `optimizers/` and `schedules/`, or some of them, with
files as in this package. It is named by `plugins:` in the configuration, as a package (`my_lab.snn`) or as a folder (`./ours`),
or installed with an entry point of the group `spikedistill.plugins` whose value is a package.

Anyone who can write to a plug-in can run code as everybody who names it: a folder that all users of the machine can write to,
or replace, is refused. Nothing that lies beside such a folder becomes importable, so that nobody can put a module there that a
library merely tries to import.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import keyword
import os
import stat
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path

from spikedistill.errors import ConfigError

GROUP = "spikedistill.plugins"
PACKAGE = "spikedistill"
ROOMS = ("distill", "datasets", "models", "neurons", "optimizers", "schedules")
COMPUTING = ("data", "neurons", "models", "distill", "train", "evaluate", "stages")
"""Rooms of this package that compute results; in the recorded code of an artifact (`plan.code`), these names mean them."""


def room_of(kind: str) -> str:
    """Return the folder of a plug-in that holds the components of a kind, such as `datasets` for `data.datasets`."""
    return "neurons" if kind == "neurons.kinds" else kind.rpartition(".")[2]


@dataclass(frozen=True)
class Source:
    """A package with components.

    Attributes:
        package: its dotted name.
        folder: where its files are.
        name: how a configuration names it.
        origin: who named it, for messages.
    """

    package: str
    folder: Path
    name: str
    origin: str

    def room(self, kind: str) -> Path:
        """Return the folder of the components of a kind, such as `distill` or `data.datasets`."""
        if self.package == PACKAGE:
            return self.folder.joinpath(*kind.split("."))
        return self.folder / room_of(kind)

    def module(self, file: Path) -> str:
        """Return the dotted name of one of its files."""
        return ".".join((self.package, *file.relative_to(self.folder).with_suffix("").parts))


OWN = Source(PACKAGE, Path(__file__).parent, PACKAGE, PACKAGE)
_named: tuple[Source, ...] = ()


def activate(names: Sequence[str]) -> None:
    """Use the plug-ins that a configuration names, instead of those named before.

    Args:
        names: packages, and folders relative to the working directory: `./ours`, `/lab/snn`.

    Raises:
        ConfigError: if one cannot be used.
    """
    global _named
    chosen: dict[str, Source] = {}
    for source in map(_source, names):
        other = chosen.setdefault(source.package, source)
        if other.folder != source.folder:
            raise ConfigError(_taken(source.origin, source.package, other.folder))
    for source in chosen.values():
        if is_folder(source.name):
            _make_importable(source)
    before, _named = _named, tuple(chosen.values())
    if _named != before:
        _clear_caches()


def named() -> list[str]:
    """Return the names by which `activate` finds the plug-ins of the configuration again."""
    return [source.name for source in _named]


def of_modules(modules: Iterable[str]) -> list[str]:
    """Return the plug-ins that modules belong to, by the names that another configuration gives them: `./ours`, `my_lab.snn`.

    A folder is meant wherever it lies: whoever uses it elsewhere has a copy of it.
    """
    found = {source for source in map(source_of, modules) if source not in (None, OWN)}
    return sorted(f"./{source.folder.name}" if is_folder(source.name) else source.name for source in found if source)


def sources() -> tuple[Source, ...]:
    """Return this package, the plug-ins that the configuration names, and the installed ones."""
    installed = _installed()
    return (OWN, *_named, *(each for each in installed if each.package not in {source.package for source in _named}))


def source_of(module: str) -> Source | None:
    """Return what a module belongs to, None if it is neither of this package nor of a plug-in."""
    fitting = [source for source in sources() if f"{module}.".startswith(f"{source.package}.")]
    return max(fitting, key=lambda source: len(source.package), default=None)


def file_of(module: str) -> Path:
    """Return the file of a module of this package or of a plug-in; one that does not exist for a name that is no module."""
    source = source_of(module)
    assert source is not None, module
    path = source.folder.joinpath(*module.removeprefix(source.package).split(".")[1:])
    package, file = path / "__init__.py", path.with_suffix(".py")
    is_package = path == source.folder or package.is_file() or (path.is_dir() and not file.is_file())
    return package if is_package else file


def import_failure(module: str, err: Exception) -> str:
    """Return a message about a module that cannot be imported, with the last line of its package that was reached."""
    source, file = source_of(module), file_of(module)
    line = ""
    if isinstance(err, SyntaxError) and err.filename:
        file, line = Path(err.filename), f", line {err.lineno}"
    elif source is not None:
        for frame in traceback.extract_tb(err.__traceback__):
            if Path(frame.filename).is_relative_to(source.folder):
                file, line = Path(frame.filename), f", line {frame.lineno}"
    said = err.msg if isinstance(err, SyntaxError) else str(err)
    return f"{file}{line}: cannot be imported: {type(err).__name__}: {said}"


def parse_failure(file: Path) -> str:
    """Return why a file is not Python."""
    try:
        compile(file.read_text(encoding="utf-8"), str(file), "exec")
    except SyntaxError as err:
        return f"line {err.lineno}: {err.msg}"
    except (ValueError, OSError) as err:
        return str(err)
    return "changed meanwhile"


@functools.cache
def _installed() -> tuple[Source, ...]:
    found = {}
    for point in importlib.metadata.entry_points(group=GROUP):
        origin = f"entry point {point.name} of {point.dist.name if point.dist else 'a package'}"
        found[point.value] = _package(point.value, origin)
    return tuple(found.values())


def is_folder(name: str) -> bool:
    """Return True if a configuration that names a plug-in so means a folder, and not a package."""
    return name.startswith((".", "~")) or "/" in name


def _source(name: str) -> Source:
    return _folder(name) if is_folder(name) else _package(name, f"plugins: {name}")


def _package(name: str, origin: str) -> Source:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"{origin}: neither the name of a package, such as my_lab.snn, nor a folder, such as ./ours")
    try:
        spec = importlib.util.find_spec(name)
    except Exception as err:  # of the package that it lies in, which is imported to find it
        raise ConfigError(f"{origin}: {type(err).__name__}: {err}") from err
    if spec is None or not spec.submodule_search_locations:
        what = "no package of that name is installed" if spec is None else "it is a module, not a package with rooms"
        hint = f"; the folder here is called ./{name}" if Path(name).is_dir() else ""
        raise ConfigError(f"{origin}: {what}{hint}")
    return _checked(Source(name, Path(next(iter(spec.submodule_search_locations))), name, origin))


def _folder(name: str) -> Source:
    """Check a folder that is to be imported under its own name, which nothing else that can be imported may have."""
    origin = f"plugins: {name}"
    given = Path(name).expanduser().absolute()
    folder = given.resolve()
    if not folder.is_dir():
        raise ConfigError(f"{origin}: no such folder: {folder}")
    check_name(folder.name, origin)
    _check_not_writable_by_all(given, origin)
    if folder.name not in _finder().folders:
        spec = importlib.util.find_spec(folder.name)
        if spec is not None and str(folder) not in [str(Path(each).resolve()) for each in spec.submodule_search_locations or ()]:
            raise ConfigError(_taken(origin, folder.name, spec.origin or list(spec.submodule_search_locations or ())))
    return _checked(Source(folder.name, folder, name, origin))


def check_name(name: str, origin: str) -> None:
    """Raise a ConfigError, which names `origin`, unless Python can import a folder under its name."""
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ConfigError(f"{origin}: imported under its name, and {name!r} is none for Python: use letters, digits and _")
    if name in COMPUTING:
        raise ConfigError(f"{origin}: code of spikedistill is recorded under this name, too: choose another")


def _taken(origin: str, package: str, by: object) -> str:
    return f"{origin}: there is a Python package {package!r} already ({by}): rename the folder"


def _make_importable(source: Source) -> None:
    """Make a folder importable in place of an earlier one of its name, whose modules are forgotten."""
    folders = _finder().folders
    if folders.get(source.package, source.folder) != source.folder:
        del folders[source.package]
        for module in [name for name in sys.modules if f"{name}.".startswith(f"{source.package}.")]:
            del sys.modules[module]
    if importlib.util.find_spec(source.package) is None:
        folders[source.package] = source.folder


def _clear_caches() -> None:
    """Empty the caches of this package: any of them may hold what it found in plug-ins that are not used any more."""
    for name, module in list(sys.modules.items()):
        if f"{name}.".startswith(f"{PACKAGE}."):
            for value in list(vars(module).values()):
                if isinstance(value, functools._lru_cache_wrapper):
                    value.cache_clear()


class _FolderFinder(importlib.abc.MetaPathFinder):
    """Finds folders of plug-ins as packages, each by its name alone; `__init__.py` is not needed."""

    def __init__(self) -> None:
        self.folders: dict[str, Path] = {}

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return the spec of a folder's package, None for any other name."""
        folder = self.folders.get(fullname)
        if folder is None:
            return None
        if (folder / "__init__.py").is_file():
            locations = [str(folder)]
            return importlib.util.spec_from_file_location(fullname, folder / "__init__.py", submodule_search_locations=locations)
        spec = ModuleSpec(fullname, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        return spec


_FINDER = _FolderFinder()


def _finder() -> _FolderFinder:
    if _FINDER not in sys.meta_path:
        sys.meta_path.append(_FINDER)
    return _FINDER


def _check_not_writable_by_all(given: Path, origin: str) -> None:
    """Check that not every user can change the code of a folder: write to it or to its files, or replace them.

    In a sticky folder, such as /tmp, others cannot replace what lies there, but can add to it.
    """
    try:
        code = set(_code_in(given.resolve()))
        links = {place for place in code if place.is_symlink()}
        code -= links
        on_the_way = map(_folders_on_the_way, (given, *links))
        above = {folder for place in code for folder in place.parents}.union(*on_the_way) - code
        for each in sorted(code | above):
            mode = _mode(each)
            if mode & stat.S_IWOTH and not (each in above and mode & stat.S_ISVTX):
                what = f"every user of this machine can write to {each}, and its code runs as you"
                raise ConfigError(f"{origin}: {what}: chmod o-w it, or move the plug-in")
    except OSError as err:
        raise ConfigError(f"{origin}: {err.filename}: {err.strerror}") from None


def _folders_on_the_way(path: Path) -> set[Path]:
    """Return the folders in which the parts of a path are looked up, and those of what links in it lead to."""
    folders: set[Path] = set()
    place, ahead, links = Path("/"), list(reversed(path.absolute().parts[1:])), 0
    while ahead:
        part = ahead.pop()
        if part == "..":
            place = place.parent
            continue
        folders.add(place)
        if (place / part).is_symlink() and links < 40:
            links += 1
            leads_to = (place / part).readlink()
            ahead += reversed(leads_to.parts[leads_to.is_absolute() :])
            place = Path("/") if leads_to.is_absolute() else place
        else:
            place /= part
    return folders


def _code_in(folder: Path) -> Iterator[Path]:
    """Yield a folder and all below it that Python may import, real folders and files, and the links that lead to them."""
    waiting, seen = [folder], {folder}
    while waiting:
        place = waiting.pop()
        yield place
        for path in _entries(place):
            real = Path(os.path.realpath(path)) if path.is_symlink() else path  # Path.resolve refuses links in a circle
            if real != path and (real.is_dir() or (_is_code(path) and real.is_file())):
                yield path
            if real.is_dir():
                if real != path and not any(map(_is_code, _entries(real))):
                    yield real  # and no more: it may be a link to data, of which there may be much
                elif real not in seen:
                    seen.add(real)
                    waiting.append(real)
            elif _is_code(path) and real.is_file():
                yield real


def _entries(folder: Path) -> list[Path]:
    """Return what lies in a folder and can be imported by its name; nothing for a folder that is not readable."""
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except PermissionError:
        return []


def _is_code(path: Path) -> bool:
    return path.name.endswith(tuple(importlib.machinery.all_suffixes()))


def _mode(path: Path) -> int:
    """Return the mode of a file; 0 if it was removed meanwhile."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return 0


def _checked(source: Source) -> Source:
    if source.package == PACKAGE or source.package.startswith(f"{PACKAGE}."):
        raise ConfigError(f"{source.origin}: this is spikedistill itself")
    check_name(source.package.partition(".")[0], source.origin)
    if not any((source.folder / room).is_dir() for room in ROOMS):
        raise ConfigError(f"{source.origin}: {source.folder} has none of the folders {', '.join(ROOMS)}; see docs/extending.md")
    return source
