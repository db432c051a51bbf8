"""What would run and what has run: `plan`, `status`, `logs`."""

from __future__ import annotations

import argparse
import sys

from spikedistill.cli.arguments import Commands, load_plan


def add(commands: Commands, configured: argparse.ArgumentParser) -> None:
    """Add the commands of this module."""
    plan = commands.add_parser(
        "plan", parents=[configured], help="show what would run, with ids, and what is in the store already"
    )
    how = plan.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print the specs as JSON, one a line")
    how.add_argument("--table", action="store_true", help="one line per row of the report instead of one per stage")
    plan.add_argument("--profile", help="Snakemake profile whose GPUs the estimates are for (default: cluster, if there)")
    plan.set_defaults(command=_plan)
    status = commands.add_parser("status", parents=[configured], help="show the state of every stage")
    status.set_defaults(command=_status)
    logs = commands.add_parser("logs", parents=[configured], help="show the logs of stages, and follow them")
    what = "a stage's artifact, an unambiguous beginning of its name, or a pattern such as '*kd*'"
    logs.add_argument("names", nargs="+", metavar="NAME", help=what)
    logs.add_argument("-n", "--lines", type=_count, default=40, help="how many of the last lines (default: 40; 0: all)")
    follow = "print what is added, until the stages are finished or Ctrl-C; a log that is not there yet is waited for"
    logs.add_argument("-f", "--follow", action="store_true", help=follow)
    logs.set_defaults(command=_logs)


def _plan(options: argparse.Namespace) -> None:
    from spikedistill.launch.profile import default_resources, set_resources, site_profile
    from spikedistill.launch.resources import stage_cost
    from spikedistill.plan.estimate import Cost, Estimator
    from spikedistill.plan.stages import Spec
    from spikedistill.plan.tables import plan_table, run_table

    plan = load_plan(options)
    if options.json:
        for spec in plan.stages.values():
            print(spec.model_dump_json())
        return
    profile = site_profile(options.profile)
    estimator = Estimator(plan)

    def cost_of(spec: Spec) -> Cost:
        return stage_cost(estimator, spec, set_resources(spec.stage, profile), default_resources(profile))

    print(run_table(plan, cost_of) if options.table else plan_table(plan, cost_of))


def _status(options: argparse.Namespace) -> None:
    from spikedistill.launch.status import status_table

    print(status_table(load_plan(options)))


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


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"0 or more lines; found {number}")
    return number
