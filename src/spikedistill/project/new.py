"""`spikedistill new`: the file of a component in a plug-in, as a working template to change."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from spikedistill import components
from spikedistill.errors import ConfigError
from spikedistill.plugins import check_name, room_of
from spikedistill.store.atomic import write_text

TEMPLATES = Path(__file__).with_name("template") / "new"
KINDS: dict[str, components.Kind] = {
    "method": "distill",
    "dataset": "data.datasets",
    "neuron": "neurons.kinds",
    "optimizer": "train.optimizers",
    "schedule": "train.schedules",
}
"""Kinds whose components are files of their own, by what they are called."""
NAMES = (*KINDS, "architecture")
"""What can be written."""
_NAME = re.compile(r"[a-z][a-z0-9_-]*")


def new_component(kind: str, name: str, plugin: Path) -> Path:
    """Write the file of a new component into a plug-in's folder; return its path.

    Args:
        kind: one of `NAMES`.
        name: its name in the configuration.
        plugin: folder of the plug-in; it and its room are made if they are not there.

    Raises:
        ConfigError: if the name is none or taken, or the file exists.
    """
    stem = name.replace("-", "_")
    if not _NAME.fullmatch(name) or keyword.iskeyword(stem):
        raise ConfigError(f"{name!r} cannot name a {kind}: use small letters, digits, - and _, a letter first")
    if components.canonical(name) in _taken(kind):
        raise ConfigError(f"{name!r} is the name of another {kind}; choose a different one")
    check_name(plugin.resolve().name, f"--plugin {plugin}")
    file = plugin / room_of(KINDS.get(kind, "models")) / f"{stem}.py"
    text = (TEMPLATES / f"{kind}.py").read_text(encoding="utf-8").replace('"NAME"', f'"{name}"')
    if file.exists() or file.is_symlink():
        raise ConfigError(f"{file} exists and stays as it is; choose another name")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, text)
    return file


def _taken(kind: str) -> set[str]:
    if kind == "architecture":
        return set(map(components.canonical, components.architectures()))
    return set(components.names(KINDS[kind]))
