# PYTHON_ARGCOMPLETE_OK
"""The `spikedistill` command: each module holds a group of commands, their arguments and functions. Imports no torch itself."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Sequence

import spikedistill
from spikedistill.cli import checks, components, developers, jobs, plan, plugins, project, results, stages, store
from spikedistill.cli.arguments import config_arguments
from spikedistill.cli.terminal.completion import complete
from spikedistill.cli.terminal.words import Parser
from spikedistill.errors import SpikedistillError

GROUPS = (project, plan, components, plugins, stages, jobs, results, checks, store, developers)
"""Modules of commands, in the order in which `--help` lists them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 done, 1 a problem the user can fix, 2 wrong usage, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the terminal's encoding lacks
    parser = _parser()
    complete(parser)
    options = parser.parse_args(arguments)
    try:
        return options.command(options) or 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (SpikedistillError, OSError) as err:
        if logging.getLogger().handlers:  # a stage that runs: its log tells why it ended
            logging.getLogger(__name__).error("%s", err)
        else:
            print(f"spikedistill: error: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="spikedistill", description=spikedistill.__doc__)
    parser.add_argument("--version", action="version", version=f"spikedistill {spikedistill.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    configured = config_arguments()
    for group in GROUPS:
        group.add(commands, configured)
    return parser
