"""What a configuration can say: `list` and `schema`."""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import Any

from spikedistill import components, plugins
from spikedistill.cli.arguments import Commands, use_plugins
from spikedistill.errors import ConfigError
from spikedistill.project.new import KINDS

LISTED: dict[str, components.Kind] = {f"{name}s": kind for name, kind in KINDS.items()}
"""Kinds of component by what a list of them is called."""


def add(commands: Commands, configured: argparse.ArgumentParser) -> None:
    """Add the commands of this module."""
    listing = commands.add_parser(
        "list",
        parents=[configured],
        help="list the methods, datasets, neurons, architectures, optimizers or schedules that a config can name",
    )
    listing.add_argument("what", choices=["architectures", *LISTED])
    listing.add_argument("name", nargs="?", help="one of them: its parameters, their defaults and meaning, or its entry")
    listing.set_defaults(command=_list)
    schema = commands.add_parser("schema", help="print the JSON schema of config.yaml, for editors, or its reference, to read")
    schema.add_argument("--docs", action="store_true", help="the reference, in Markdown, instead of the schema")
    schema.set_defaults(command=_schema)


def _list(options: argparse.Namespace) -> None:
    use_plugins(options)
    if options.what == "architectures":
        _list_architectures(options.name)
        return
    kind = LISTED[options.what]
    if options.name and options.name.rstrip("/") in components.zoos(kind):
        _list_zoo(kind, options.name.rstrip("/"))
        return
    if options.name:
        _list_parameters(kind, options.name)
        return
    for name in components.names(kind):
        origin, about = _about(kind, name)
        print(f"{name:20} {origin:16} {about}")
    for zoo, module in components.zoos(kind).items():
        print(f"{zoo + '/…':20} {_package_of(module):16} spikedistill list {options.what} {zoo}")


def _list_zoo(kind: str, zoo: str) -> None:
    print(*(f"{zoo}/{each}" for each in components.zoo_names(zoo, kind)), sep="\n")


def _about(kind: components.Kind, name: str) -> tuple[str, str]:
    """Return the package that a component is from, and the first line of its docstring or why it cannot be used."""
    origin = "?"
    try:
        origin = _package_of(components.module_of(kind, name))
        return origin, (components.load(kind, name).__doc__ or "").strip().partition("\n")[0]
    except ConfigError as err:
        return origin, f"(cannot be used: {err})"


def _package_of(module: str) -> str:
    source = plugins.source_of(module)
    assert source is not None
    return source.package


def _list_architectures(name: str | None) -> None:
    if name is None:
        for each, (module, _) in components.architectures().items():
            print(f"{each:28} {_package_of(module):16} models/{plugins.file_of(module).name}")
        for zoo, module in components.zoos().items():
            print(f"{zoo + '/…':28} {_package_of(module):16} spikedistill list architectures {zoo}")
        return
    if name.rstrip("/") in components.zoos():
        _list_zoo("models", name.rstrip("/"))
        return
    module, entry = components.architecture(name)
    print(f"{name}: {plugins.file_of(module)}")
    for key, value in entry.items():
        print(f"  {key}: {json.dumps(value)}")


def _list_parameters(kind: components.Kind, name: str) -> None:
    component = components.load(kind, name)
    print((component.__doc__ or "").strip())
    for key, entry in component.Params.model_json_schema().get("properties", {}).items():
        options: dict[str, Any] = next((each for each in [entry, *entry.get("anyOf", [])] if each.keys() & {"enum", "type"}), {})
        allowed = " | ".join(map(str, options.get("enum", [options.get("type", "")])))
        text = f"{allowed}, default {json.dumps(entry.get('default'))}. {entry.get('description', '')}"
        print(textwrap.fill(text, 120, initial_indent=f"\n  {key}: ", subsequent_indent="      "))


def _schema(options: argparse.Namespace) -> None:
    from spikedistill.config.reference import configuration_reference
    from spikedistill.config.schema import schema_text

    print(configuration_reference() if options.docs else schema_text(), end="")
