"""Arguments that several commands share, and what they name: the configuration, its plan, the store."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from spikedistill.cli.terminal.completion import config_keys, offer, profiles
from spikedistill.config.check import activate_plugins, parse_config
from spikedistill.config.files import merge, read_config
from spikedistill.config.models import Config
from spikedistill.plan.build import Plan, build_plan
from spikedistill.plugins import is_folder

if TYPE_CHECKING:
    from spikedistill.store.artifacts import Store

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""The object to which a module adds the parsers of its commands."""
NAME_HELP = "an unambiguous beginning of its name, or a pattern such as '*kd*'"
DEFAULT_FILES = [Path("config.yaml")]
"""The configuration where none is given."""
PATHS = frozenset({"plugins", "results", "root", "store", "weights"})
"""Keys of the configuration, outside of `params`, whose values are paths."""


def config_arguments() -> argparse.ArgumentParser:
    """Return the arguments that choose the configuration, as a parent of parsers."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--configfile",
        type=Path,
        action="append",
        metavar="FILE",
        help="configuration, a .yaml file; several may follow, and later ones win (default: config.yaml)",
    )
    config = shared.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of it; a dot goes one level down; several may follow",
    )
    offer(config, lambda options: config_keys(read_config(chosen_files(options) or []), Config.model_fields))
    return shared


def folder(text: str) -> Path:
    """Return the folder that an argument names: not the current one for "", as of a variable of the shell that is not set."""
    if not text:
        raise argparse.ArgumentTypeError("expected a folder, found nothing; . is the current one")
    return Path(text)


def add_stage_names(parser: argparse._ActionsContainer, *, nargs: str = "+", note: str = "") -> None:
    """Add the argument that names stages of the plan; `note` follows its help."""
    names = parser.add_argument("names", nargs=nargs, default=[], metavar="NAME", help=f"a stage's artifact, {NAME_HELP}{note}")
    offer(names, lambda options: (ref.partition("/")[2] for ref in load_plan(options).stages))


def add_artifact_names(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the argument that names artifacts of the store."""
    names = parser.add_argument("names", nargs="+", metavar="NAME", help=f"{what}, {NAME_HELP}")
    offer(names, lambda options: (ref.partition("/")[2] for ref in open_store(options).refs()))


def add_profile(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the argument that names a Snakemake profile; `what` says what it is for."""
    profile = parser.add_argument("--profile", help=f"{what} (default: cluster, if there)")
    offer(profile, lambda options: profiles())


def store_argument() -> argparse.ArgumentParser:
    """Return the argument that chooses a store, as a parent of parsers."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--store", type=folder, help="folder of the artifacts (default: as configured)")
    return shared


def for_argument(purpose: str) -> argparse.ArgumentParser:
    """Return the argument that names further configurations, each a list of files in `needed_for`, as a parent of parsers.

    Args:
        purpose: what they are given for, such as "whose artifacts are needed".
    """
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--for",
        dest="needed_for",
        action="append",
        nargs="+",
        default=[],
        type=Path,
        metavar="FILE",
        help=f"a further configuration {purpose}; give --for again for each (files after one --for are merged)",
    )
    return shared


def load_plan(options: argparse.Namespace) -> Plan:
    """Return the plan of the configuration that the arguments choose."""
    return plan_of(options.configfile or DEFAULT_FILES, options.config)


def plan_of(files: Sequence[Path], overrides: Sequence[str]) -> Plan:
    """Return the plan of a configuration, of which `--config` overrides some keys."""
    return build_plan(parse_config(read_config(files, overrides), source=_source(files)))


def plan_of_further(files: Sequence[Path]) -> Plan:
    """Return the plan of a configuration that `--for` names, perhaps of another project.

    Relative paths in a file outside the working directory count from its own folder.
    """
    merged: dict[str, Any] = {}
    for file in files:
        values, folder = read_config([file]), file.parent.resolve()
        merge(merged, values if folder.is_relative_to(Path.cwd()) else _placed(values, folder))
    return build_plan(parse_config(merged, source=_source(files)))


def _placed(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a part of a configuration with its relative paths made absolute: they count from a folder."""

    def placed(key: str, value: Any) -> Any:
        if isinstance(value, Mapping) and key != "params":
            return _placed(value, folder)
        if isinstance(value, list) and key in PATHS:
            return [placed(key, each) for each in value]
        if not isinstance(value, str) or key not in PATHS or value.startswith("~"):
            return value
        return value if key == "plugins" and not is_folder(value) else str(folder / value)

    return {key: placed(key, value) for key, value in values.items()}


def use_plugins(options: argparse.Namespace) -> None:
    """Use the plug-ins of the configuration, if there is one; the rest of it need not be valid."""
    files = chosen_files(options)
    if files:
        activate_plugins(read_config(files, options.config), _source(files))


def open_store(options: argparse.Namespace) -> Store:
    """Return the store of --store, or else of the configuration."""
    from spikedistill.store.artifacts import Store

    if options.store:
        use_plugins(options)  # of the networks in it
        return Store(options.store)
    if not chosen_files(options) and getattr(options, "needed_for", []):
        return Store(plan_of_further(options.needed_for[0]).config.store)
    return Store(load_plan(options).config.store)


def chosen_files(options: argparse.Namespace) -> Sequence[Path] | None:
    """Return the files of --configfile, or config.yaml if it is there."""
    return options.configfile or (DEFAULT_FILES if DEFAULT_FILES[0].exists() else None)


def _source(files: Sequence[Path]) -> str:
    """Return what messages call a configuration."""
    return ", ".join(map(str, files))
