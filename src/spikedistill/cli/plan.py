"""What would run: `plan`."""

from __future__ import annotations

import argparse

from spikedistill.cli.arguments import Commands, add_profile, load_plan


def add(commands: Commands, configured: argparse.ArgumentParser) -> None:
    """Add the commands of this module."""
    plan = commands.add_parser(
        "plan", parents=[configured], help="show what would run, with ids, and what is in the store already"
    )
    how = plan.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print the specs as JSON, one a line")
    how.add_argument("--table", action="store_true", help="one line per row of the report instead of one per stage")
    add_profile(plan, "Snakemake profile whose GPUs the estimates are for")
    plan.set_defaults(command=_plan)


def _plan(options: argparse.Namespace) -> None:
    from spikedistill.launch.profile import site_profile
    from spikedistill.launch.resources import costs_on
    from spikedistill.plan.tables import plan_table, run_table

    plan = load_plan(options)
    if options.json:
        for spec in plan.stages.values():
            print(spec.model_dump_json())
        return
    cost_of = costs_on(plan, site_profile(options.profile))
    print(run_table(plan, cost_of) if options.table else plan_table(plan, cost_of))
