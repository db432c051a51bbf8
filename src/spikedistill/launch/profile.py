"""Read the settings of Snakemake profiles that concern stages. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spikedistill.config.yaml_reader import read_mapping, read_yaml
from spikedistill.errors import ConfigError


def find_profile(name: str) -> Path:
    """Return the YAML file of a profile, given as Snakemake takes it: a folder, a file, or a name in ~/.config/snakemake.

    Raises:
        ConfigError: if there is none.
    """
    places = [Path(name), Path("~/.config/snakemake").expanduser() / name, Path("/etc/xdg/snakemake") / name]
    candidates = [p for place in places for p in (place / "config.yaml", place / "profile.yaml", place) if p.is_file()]
    if not candidates:
        raise ConfigError(f"no profile {name!r}: looked for a config.yaml in " + ", ".join(map(str, places)))
    return candidates[0]


def read_profile(name: str) -> dict[str, Any]:
    """Read the settings of a Snakemake profile.

    Raises:
        ConfigError: if there is none, or it is not a YAML mapping.
    """
    return read_mapping(find_profile(name), of_snakemake=True)


def site_profile(name: str | None) -> dict[str, Any]:
    """Read the settings of the named profile; without a name, those of `cluster` if there is one.

    Raises:
        ConfigError: as `read_profile` does.
    """
    if not name and not Path("cluster").is_dir():
        return {}
    return read_profile(name or "cluster")


def site_resources(stage: str, profile: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a profile sets for a stage: its `set-resources`, over its `default-resources`."""
    return default_resources(profile) | set_resources(stage, profile)


def default_resources(profile: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `default-resources` of a profile."""
    return _pairs(profile.get("default-resources"), "default-resources")


def set_resources(stage: str, profile: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `set-resources` of a profile for a stage."""
    per_rule = profile.get("set-resources") or {}
    if isinstance(per_rule, list):
        per_rule = _nested(per_rule)
    if not isinstance(per_rule, Mapping):
        raise ConfigError(f"profile: set-resources: expected a mapping of stages to their resources, found {per_rule!r}")
    return _pairs(per_rule.get(stage), f"set-resources.{stage}")


def _pairs(values: Any, key: str) -> dict[str, Any]:
    if isinstance(values, list):
        return parse_pairs(values, key)
    if values is None or isinstance(values, Mapping):
        return dict(values or {})
    raise ConfigError(f"profile: {key}: expected a mapping or a list of key=value, found {values!r}")


def _nested(entries: list[str]) -> dict[str, dict[str, Any]]:
    nested: dict[str, dict[str, Any]] = {}
    for key, value in parse_pairs(entries, "set-resources").items():
        rule, _, resource = key.partition(":")
        nested.setdefault(rule, {})[resource] = value
    return nested


def parse_pairs(pairs: list[str], what: str) -> dict[str, Any]:
    """Parse `key=value` strings with YAML values.

    Raises:
        ConfigError: if one has no `=`.
    """
    parsed = {}
    for pair in pairs:
        key, separator, value = str(pair).partition("=")
        if not separator or not key:
            raise ConfigError(f"{what}: expected key=value, found {pair!r}")
        parsed[key.strip()] = read_yaml(value, f"{what} {key.strip()}", of_snakemake=True)
    return parsed
