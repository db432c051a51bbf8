"""Which words of the command line belong to an option that takes several.

`--configfile a.yaml b.yaml` is how Snakemake takes files, and `--configfile a.yaml NAME` is how people write. So each option that
takes several words takes the first, and of those that follow the ones that look like its own; the others are names.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

FILE_ENDINGS = (".yaml", ".yml", ".json")


def _is_file(word: str) -> bool:
    return word.lower().endswith(FILE_ENDINGS)


def _is_pair(word: str) -> bool:
    return "=" in word


SEVERAL: dict[str, Callable[[str], bool]] = {"--configfile": _is_file, "--config": _is_pair, "--set": _is_pair}
"""Options that take several words, and what tells theirs from names. In the parser, each takes one and may be repeated."""


class Parser(argparse.ArgumentParser):
    """A parser that tells such words from names."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse the words of a command line, by default of this program's."""
        return super().parse_args(separated(sys.argv[1:] if args is None else args), namespace)


def separated(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with such options repeated for each word: `--config a=1 b=2` as `--config a=1 --config b=2`."""
    return list(_separate(arguments))


def _separate(arguments: Sequence[str]) -> Iterator[str]:
    option = ""
    is_first = False
    for at, word in enumerate(arguments):
        if word == "--":
            yield from arguments[at:]
            return
        if word.startswith("-") and word != "-":
            name, has_value, _ = word.partition("=")
            option = name if name in SEVERAL else ""
            is_first = not has_value
        elif option and not is_first and SEVERAL[option](word):
            yield option
        elif not is_first:
            option = ""
        else:
            is_first = False
        yield word
