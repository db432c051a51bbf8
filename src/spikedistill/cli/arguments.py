"""Arguments that several commands share, and what they name: the configuration, its plan, the store."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from spikedistill.config.check import activate_plugins, parse_config
from spikedistill.config.files import read_config
from spikedistill.plan.build import Plan, build_plan

if TYPE_CHECKING:
    from spikedistill.store.artifacts import Store

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""Where a command adds its parser."""


def config_arguments() -> argparse.ArgumentParser:
    """Return the arguments that choose the configuration, as a parent of parsers."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--configfile",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="configuration; later files win (default: config.yaml)",
    )
    shared.add_argument(
        "--config", nargs="+", default=[], metavar="KEY=VALUE", help="override a key of it; a dot goes one level down"
    )
    return shared


def store_argument() -> argparse.ArgumentParser:
    """Return the argument that chooses a store, as a parent of parsers."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--store", help="folder of the artifacts (default: as configured)")
    return shared


def load_plan(options: argparse.Namespace) -> Plan:
    """Return the plan of the configuration that the arguments choose."""
    files = options.configfile or [Path("config.yaml")]
    return build_plan(parse_config(read_config(files, options.config), source=", ".join(map(str, files))))


def use_plugins(options: argparse.Namespace) -> None:
    """Use the plug-ins of the configuration, if there is one; the rest of it need not be valid."""
    files = next(iter(given_configs(options)), None)
    if files:
        activate_plugins(read_config(files, options.config), ", ".join(map(str, files)))


def open_store(options: argparse.Namespace) -> Store:
    """Return the store of --store, or else of the configuration."""
    from spikedistill.store.artifacts import Store

    if options.store:
        return Store(options.store)
    files = next(iter(given_configs(options)), [Path("config.yaml")])
    return Store(plan_of(files, options).config.store)


def given_configs(options: argparse.Namespace) -> list[list[Path]]:
    """Return the files of each given configuration: --configfile, or config.yaml if it is there, and what --for names."""
    default = [Path("config.yaml")]
    main = options.configfile or (default if default[0].exists() else None)
    return ([main] if main else []) + getattr(options, "needed_for", [])


def plan_of(files: Sequence[Path], options: argparse.Namespace) -> Plan:
    """Return the plan of a configuration; --config overrides that of --configfile only."""
    overrides = options.config if files not in getattr(options, "needed_for", []) else ()
    return build_plan(parse_config(read_config(files, overrides), source=", ".join(map(str, files))))
