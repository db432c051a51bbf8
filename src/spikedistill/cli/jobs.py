"""What runs, and how to end it: `status`, `logs`, `cancel`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from spikedistill.cli.arguments import Commands, load_plan, profile_argument
from spikedistill.plan.build import Plan

if TYPE_CHECKING:
    from spikedistill.launch.status.collect import Collector

INTERVAL_S = 10.0
LEAST_INTERVAL_S = 1.0  # Slurm answers everybody on the cluster


def add(commands: Commands, configured: argparse.ArgumentParser) -> None:
    """Add the commands of this module."""
    _add_status(commands, configured)
    _add_logs(commands, configured)


def _add_status(commands: Commands, configured: argparse.ArgumentParser) -> None:
    status = commands.add_parser(
        "status", parents=[configured, profile_argument()], help="show the state of every stage and its job, once or live"
    )
    status.add_argument(
        "-w",
        "--watch",
        nargs="?",
        type=_interval,
        const=INTERVAL_S,
        metavar="SECONDS",
        help="show it again every so many seconds (default: 10) until all is done or Ctrl-C; lines about changes where the "
        "output is no terminal",
    )
    status.add_argument("--json", action="store_true", help="print it as JSON, one line for each time")
    status.set_defaults(command=_status)


def _add_logs(commands: Commands, configured: argparse.ArgumentParser) -> None:
    logs = commands.add_parser("logs", parents=[configured], help="show the logs of stages, and follow them")
    what = "a stage's artifact, an unambiguous beginning of its name, or a pattern such as '*kd*'"
    logs.add_argument("names", nargs="+", metavar="NAME", help=what)
    logs.add_argument("-n", "--lines", type=_count, default=40, help="how many of the last lines (default: 40; 0: all)")
    follow = "print what is added, until the stages are finished or Ctrl-C; a log that is not there yet is waited for"
    logs.add_argument("-f", "--follow", action="store_true", help=follow)
    logs.set_defaults(command=_logs)


def _status(options: argparse.Namespace) -> None:
    from spikedistill.launch.status.plain import as_json, as_table
    from spikedistill.launch.status.watch import watch

    collector = _collector(load_plan(options), options.profile)
    if options.watch is not None:
        watch(collector.collect, interval_s=options.watch, json=options.json)
        return
    snapshot = collector.collect()
    print(as_json(snapshot) if options.json else as_table(snapshot))


def _logs(options: argparse.Namespace) -> int:
    from spikedistill.launch.command import stage_log
    from spikedistill.launch.logs import Logs
    from spikedistill.store.artifacts import Store

    plan = load_plan(options)
    specs = plan.select(options.names)
    logs = Logs([stage_log(spec) for spec in specs], sys.stdout)
    missing = logs.print_ends(options.lines)
    for path in missing:
        print(f"no log yet: {path} (the stage did not start in this working directory)", file=sys.stderr)
    if options.follow:
        store = Store(plan.config.store)
        logs.follow(lambda: all(store.status(spec.ref) == "complete" for spec in specs))
        return 0
    logs.print_rests()
    return 1 if missing else 0


def _collector(plan: Plan, profile_name: str | None) -> Collector:
    from spikedistill.launch.profile import site_profile
    from spikedistill.launch.resources import costs_on
    from spikedistill.launch.status.collect import Collector

    profile = site_profile(profile_name)
    return Collector(plan, profile, costs_on(plan, profile))


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"0 or more lines; found {number}")
    return number


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not LEAST_INTERVAL_S <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected {LEAST_INTERVAL_S:.0f} or more seconds; found {text}")
    return seconds
