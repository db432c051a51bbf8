"""What a configuration can say: `list` and `schema`."""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import Any

from spikedistill import components
from spikedistill.cli.arguments import Commands
from spikedistill.errors import ConfigError


def add(commands: Commands, configured: argparse.ArgumentParser) -> None:
    """Add the commands of this module."""
    listing = commands.add_parser("list", help="list the methods, datasets or architectures that a config can name")
    listing.add_argument("what", choices=["methods", "datasets", "architectures"])
    listing.add_argument("name", nargs="?", help="one method or dataset: its parameters, their defaults and meaning")
    listing.set_defaults(command=_list)
    schema = commands.add_parser("schema", help="print the JSON schema of config.yaml, for editors, or its reference, to read")
    schema.add_argument("--docs", action="store_true", help="the reference, in Markdown, instead of the schema")
    schema.set_defaults(command=_schema)


def _list(options: argparse.Namespace) -> None:
    if options.what == "architectures":
        if options.name:
            raise ConfigError("an architecture has no parameters to list; say: spikedistill list architectures")
        for name, (module, _) in components.architectures().items():
            print(f"{name:20} models/{module}.py")
        return
    kind: components.Kind = "distill" if options.what == "methods" else "data.datasets"
    if options.name:
        _list_parameters(kind, options.name)
        return
    for name in components.names(kind):
        first_line = (components.load(kind, name).__doc__ or "").strip().partition("\n")[0]
        print(f"{name:20} {first_line}")


def _list_parameters(kind: components.Kind, name: str) -> None:
    try:
        component = components.load(kind, name)
    except KeyError as err:
        what = "method" if kind == "distill" else "dataset"
        raise ConfigError(components.unknown(what, name, components.names(kind))) from err
    print((component.__doc__ or "").strip())
    for key, entry in component.Params.model_json_schema()["properties"].items():
        options: dict[str, Any] = next((each for each in [entry, *entry.get("anyOf", [])] if each.keys() & {"enum", "type"}), {})
        allowed = " | ".join(map(str, options.get("enum", [options.get("type", "")])))
        text = f"{allowed}, default {json.dumps(entry.get('default'))}. {entry.get('description', '')}"
        print(textwrap.fill(text, 120, initial_indent=f"\n  {key}: ", subsequent_indent="      "))


def _schema(options: argparse.Namespace) -> None:
    from spikedistill.config.reference import configuration_reference
    from spikedistill.config.schema import schema_text

    print(configuration_reference() if options.docs else schema_text(), end="")
