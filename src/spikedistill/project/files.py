"""Where the files of the workflow lie: beside this module in an installed package, else at the top of the checkout."""

from __future__ import annotations

import itertools
from pathlib import Path

from spikedistill import components
from spikedistill.errors import ConfigError

_PACKAGED = Path(__file__).with_name("files")  # put there by the table `force-include` of pyproject.toml
CHECKOUT = Path(__file__).parents[3]

ROOT = _PACKAGED if _PACKAGED.is_dir() else CHECKOUT
"""The folder that holds Snakefile, config.yaml, workflow/, cluster/ and envs/."""


def recipes() -> dict[str, Path]:
    """Return the recipes of published methods and the benchmarks: name -> file."""
    return {file.stem: file for file in sorted((ROOT / "workflow" / "recipes").glob("*.yaml"))}


def recipe(name: str) -> Path:
    """Return the file of a recipe.

    Raises:
        ConfigError: if there is none of that name.
    """
    found = recipes()
    if name not in found:
        raise ConfigError(components.unknown("recipe", name, found))
    return found[name]


def summary(file: Path) -> str:
    """Return what a recipe says about itself: the first paragraph of the comment at its top, after the line for editors."""
    comment = [line.removeprefix("#").strip() for line in file.read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
    return " ".join(itertools.takewhile(bool, comment[2:]))


def profiles() -> dict[str, Path]:
    """Return the Snakemake profiles: path in a project -> file."""
    files = sorted((ROOT / "cluster").glob("**/config.yaml"))
    return {str(file.relative_to(ROOT)): file for file in files}
