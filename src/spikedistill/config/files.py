"""Read, merge and write configuration files. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from spikedistill.config.check import parse_config
from spikedistill.config.models import Config
from spikedistill.errors import ConfigError
from spikedistill.store.atomic import write_text


def read_config(files: Sequence[Path], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read and merge configuration files as Snakemake does: later files win, mappings are merged.

    Args:
        files: YAML files.
        overrides: `key=value` pairs with YAML values, applied last; a dot in the key goes one level down.

    Raises:
        ConfigError: if a file is missing or not a YAML mapping, or an override has no `=`.
    """
    merged: dict[str, Any] = {}
    for file in files:
        merge(merged, _read_yaml(file))
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator or not key:
            raise ConfigError(f"--config {override}: expected key=value")
        for part in reversed(key.split(".")):
            value = {part: yaml.safe_load(value) if isinstance(value, str) else value}  # type: ignore[assignment]
        merge(merged, value)  # type: ignore[arg-type]
    return merged


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise ConfigError(f"{file}: no such file; give one with --configfile") from err
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as err:
        raise ConfigError(f"{file}: cannot be read as YAML: {err}") from err
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: expected a mapping at the top level, found {type(values).__name__}")
    return values


def write_resolved(values: Mapping[str, Any], file: Path) -> None:
    """Write the configuration in use, files and overrides merged, atomically; `read_resolved` reads it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(values, indent=1) + "\n")


def read_resolved(file: Path) -> Config:
    """Read and check the configuration that `write_resolved` wrote.

    Raises:
        ConfigError: if there is none, or it is not valid any more.
    """
    return parse_config(_read_yaml(file), source=str(file))  # JSON is YAML


def merge(target: dict[str, Any], update: Mapping[str, Any]) -> None:
    """Merge `update` into `target` in place: mappings key by key, everything else replaced."""
    for key, value in update.items():
        if isinstance(value, Mapping) and isinstance(target.get(key), dict):
            merge(target[key], value)
        else:
            target[key] = value
