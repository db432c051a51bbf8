"""Read, merge and write configuration files. Imports no torch.

The Snakefile and the command line both read the configuration through `read_config`, so that the same files and overrides give
the same ids.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spikedistill.config.check import parse_config
from spikedistill.config.models import Config
from spikedistill.config.yaml_reader import read_mapping, read_yaml
from spikedistill.errors import ConfigError
from spikedistill.store.atomic import write_text

_BREAKS = re.compile("[\x7f-\xa0\u2028\u2029\ufeff]")  # what YAML takes for a line break, or does not print


def read_config(files: Sequence[Path], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read and merge configuration files: later files win, mappings are merged, everything else is replaced.

    Args:
        files: YAML files.
        overrides: `key=value` pairs with YAML values, applied last; a dot in the key goes one level down.

    Raises:
        ConfigError: if a file is missing or not a YAML mapping, or an override has no `=`.
    """
    merged: dict[str, Any] = {}
    for file in files:
        merge(merged, read_mapping(file, "give one with --configfile"))
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not all(key.split(".")):
            raise ConfigError(
                f"--config {override}: expected key=value, such as seeds=[0,1] or experiments.NAME.student.time_steps=4"
            )
        value = read_yaml(text, f"--config {key}")
        for part in reversed(_levels(key, merged)):
            value = {part: value}
        merge(merged, value)
    return merged


def _levels(key: str, values: Mapping[str, Any]) -> list[str]:
    """Return the keys of the levels that a dotted key goes down; a label of `values` may hold dots itself."""
    parts, levels = key.split("."), []
    current: Any = values
    while parts:
        known = current if isinstance(current, Mapping) else {}
        count = next((count for count in range(len(parts), 1, -1) if ".".join(parts[:count]) in known), 1)
        levels.append(".".join(parts[:count]))
        current, parts = known.get(levels[-1]), parts[count:]
    return levels


def write_resolved(values: Mapping[str, Any], file: Path) -> None:
    """Write the configuration in use, files and overrides merged, atomically; `read_resolved` reads it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(values, indent=1, ensure_ascii=False)  # YAML knows no surrogate pairs, which JSON would be escaped with
    write_text(file, _BREAKS.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")


def read_resolved(file: Path) -> Config:
    """Read and check the configuration that `write_resolved` wrote.

    Raises:
        ConfigError: if there is none, or it is not valid any more.
    """
    return parse_config(read_mapping(file), source=str(file))  # JSON is YAML


def merge(target: dict[str, Any], update: Mapping[str, Any]) -> None:
    """Merge `update` into `target` in place: mappings key by key, everything else replaced."""
    for key, value in update.items():
        if isinstance(value, Mapping) and isinstance(target.get(key), dict):
            merge(target[key], value)
        else:
            target[key] = value
