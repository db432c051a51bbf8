"""What the shell offers on Tab: stages, artifacts, keys of the configuration, resources, profiles. Imports no torch.

A completer is called with what is typed so far, and must not raise: a mistake in the configuration is reported, and nothing is
offered.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from spikedistill.errors import SpikedistillError

Words = Callable[[argparse.Namespace], Iterable[str]]


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell and end, if it was the shell that started this program to complete a line."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)


def offer(action: argparse.Action, words: Words) -> None:
    """Offer words as values of an argument; `words` is called with the arguments of the line so far."""

    def completer(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
        try:
            return [word for word in words(parsed_args) if word.startswith(prefix)]
        except (SpikedistillError, OSError) as err:
            import argcomplete

            argcomplete.warn(str(err))
            return []

    action.completer = completer  # type: ignore[attr-defined]


def config_keys(config: Mapping[str, Any], known: Iterable[str]) -> Iterator[str]:
    """Yield what may stand before the value of `--config`: the keys of a configuration, level by level, and known ones.

    Args:
        config: the configuration as it was read.
        known: keys of the top level that it may have.
    """
    yield from (f"{key}=" for key in known if key not in config)
    yield from _keys(config, "")


def profiles() -> Iterator[str]:
    """Yield the profiles of this project."""
    files = sorted(Path().glob("cluster/**/config.yaml"))
    yield from (str(file.parent) for file in files)


def _keys(values: Mapping[str, Any], above: str) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _keys(value, f"{above}{key}.")
        else:
            yield f"{above}{key}="
