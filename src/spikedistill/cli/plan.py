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
    logs = commands.add_parser("logs", parents=[configured], help="show the log of a stage")
    logs.add_argument("name", help="the stage's artifact, or an unambiguous beginning of its name")
    logs.add_argument("-n", "--lines", type=int, default=40, help="how many of the last lines (default: 40; 0: all)")
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

    spec = load_plan(options).find(options.name)
    path = stage_log(spec)
    if not path.exists():
        print(f"no log yet: {path} (the stage did not start in this working directory)", file=sys.stderr)
        return 1
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    print(f"==> {path} <==", *lines[-options.lines :], sep="\n")
    return 0
