"""Colours of lines, on terminals only."""

import os
from collections.abc import Callable
from typing import TextIO

COLOURS = {"done": 32, "failed": 31, "ERROR": 31, "CRITICAL": 31, "WARNING": 33, "again": 33}
"""ANSI colour of each kind of line and level of message; others have none."""


def colourer(stream: TextIO, nocolor: bool) -> Callable[[str, str], str]:
    """Return a function of kind and text that colours the text if `stream` is a terminal that shows colours.

    Args:
        stream: where the lines go.
        nocolor: Snakemake's `--nocolor`. The variables NO_COLOR and TERM=dumb have the same effect.
    """
    plain = nocolor or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb" or not stream.isatty()

    def colour(kind: str, text: str) -> str:
        return text if plain or kind not in COLOURS else f"\033[{COLOURS[kind]}m{text}\033[0m"

    return colour
