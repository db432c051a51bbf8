"""Projects without a checkout: `init` and `demo`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from spikedistill.cli.arguments import Commands, folder
from spikedistill.errors import ConfigError

NEXT = (
    ("spikedistill plan", "what would run; config.yaml says what"),
    ("snakemake --profile cluster/local", "on this machine, without a GPU"),
    ("spikedistill doctor --profile cluster", "partition and account: cluster/config.yaml"),
    ("snakemake --profile cluster", "on Slurm"),
)
"""What to do in a new project."""


def add(commands: Commands, configured: argparse.ArgumentParser) -> None:
    """Add the commands of this module."""
    init = commands.add_parser("init", help="write a new project: config.yaml, Snakefile, profiles, a folder for plug-ins")
    init.add_argument("folder", type=folder, nargs="?", help="a new folder, or one that has none of these")
    init.add_argument("--recipe", metavar="NAME", help="start from a recipe (default: the demo)")
    init.add_argument("--list", action="store_true", help="list the recipes instead")
    init.set_defaults(command=_init)
    demo = commands.add_parser("demo", help="run the demo in an empty folder, on this machine")
    demo.add_argument("folder", type=folder, nargs="?", default=Path(), help="where (default: here)")
    demo.add_argument("--verbose", action="store_true", help="print what Snakemake prints by itself: a block for each stage")
    demo.set_defaults(command=_demo)


def _init(options: argparse.Namespace) -> None:
    from spikedistill.project.create import create_project
    from spikedistill.project.files import recipes, summary

    if options.list:
        for name, file in recipes().items():
            print(f"{name:22} {summary(file)}")
        return
    if options.folder is None:
        raise ConfigError("name the new folder: spikedistill init my-project; the recipes: spikedistill init --list")
    folder = create_project(options.folder, options.recipe)
    print(f"A new project: {folder.resolve()}\n\nNext:")
    if folder.resolve() != Path.cwd():
        print(f"  cd {shlex.quote(str(folder))}")
    for command, what in NEXT:
        print(f"  {command:39} # {what}")


def _demo(options: argparse.Namespace) -> int:
    from spikedistill.project.demo import run_demo

    return run_demo(options.folder, verbose=options.verbose)
