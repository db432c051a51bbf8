"""What runs, and how to end it: `status`, `logs`, `cancel`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spikedistill.cli.arguments import Commands, add_profile, add_stage_names, for_argument, load_plan, plan_of_further
from spikedistill.errors import ConfigError
from spikedistill.plan.build import Plan

if TYPE_CHECKING:
    from spikedistill.launch.jobs.find import Found, FoundJobs
    from spikedistill.launch.status.collect import Collector
    from spikedistill.plan.stages import Spec

PROFILE = "the Snakemake profile of the run: where its jobs are kept, and on what"
INTERVAL_S = 10.0
ALL = "all"
LEAST_INTERVAL_S = 1.0  # Slurm answers everybody on the cluster


def add(commands: Commands, configured: argparse.ArgumentParser) -> None:
    """Add the commands of this module."""
    _add_status(commands, configured)
    _add_logs(commands, configured)
    _add_cancel(commands, configured)


def _add_status(commands: Commands, configured: argparse.ArgumentParser) -> None:
    status = commands.add_parser("status", parents=[configured], help="show the state of every stage and its job, once or live")
    add_profile(status, PROFILE)
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
    add_stage_names(logs)
    logs.add_argument("-n", "--lines", type=_count, default=40, help="how many of the last lines (default: 40; 0: all)")
    follow = "print what is added, until the stages are finished or Ctrl-C; a log that is not there yet is waited for"
    logs.add_argument("-f", "--follow", action="store_true", help=follow)
    logs.add_argument(
        "--rank",
        action="append",
        type=_rank,
        metavar="N",
        help="the output of this rank of the newest job instead, in the job's folder; give it again for each, or `all`",
    )
    add_profile(logs, PROFILE)
    logs.set_defaults(command=_logs)


def _add_cancel(commands: Commands, configured: argparse.ArgumentParser) -> None:
    cancel = commands.add_parser(
        "cancel",
        parents=[configured, for_argument("whose jobs are to stay")],
        help="end the jobs of stages, which then are not retried; their checkpoints stay",
    )
    add_stage_names(cancel, nargs="*")
    add_profile(cancel, PROFILE)
    cancel.add_argument(
        "--all", action="store_true", help="every job of this configuration, and this user's Snakemake here that would start more"
    )
    cancel.add_argument("--stale", action="store_true", help="the jobs of this folder whose stage is in no given configuration")
    cancel.add_argument("--dry-run", action="store_true", help="end nothing; print what would be ended")
    cancel.set_defaults(command=_cancel)


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
    from spikedistill.launch.logs import Logs
    from spikedistill.store.artifacts import Store

    plan = load_plan(options)
    specs = plan.select(options.names)
    logs = Logs(_log_paths(specs, options), sys.stdout)
    missing = logs.print_ends(options.lines)
    for path in missing:
        print(f"no log yet: {path} (the stage did not start in this working directory)", file=sys.stderr)
    if options.follow:
        store = Store(plan.config.store)
        logs.follow(lambda: all(store.status(spec.ref) == "complete" for spec in specs))
        return 0
    logs.print_rests()
    return 1 if missing else 0


def _log_paths(specs: Sequence[Spec], options: argparse.Namespace) -> list[Path]:
    """Return the logs of stages, or those of some ranks of their newest jobs."""
    from spikedistill.launch.command import stage_log
    from spikedistill.launch.jobs.attempts import Attempts
    from spikedistill.launch.jobs.find import job_folders
    from spikedistill.launch.profile import site_profile

    if not options.rank:
        return [stage_log(spec) for spec in specs]
    attempts = Attempts(job_folders(site_profile(options.profile)))
    paths = []
    for spec in specs:
        attempt = attempts.last(spec)
        ranks = attempt.rank_logs() if attempt else {}
        chosen = [path for rank, path in ranks.items() if ALL in options.rank or rank in options.rank]
        if not chosen:
            told = f"it has ranks {', '.join(map(str, ranks))}" if ranks else "no job of it has run in this working directory"
            raise ConfigError(f"{Path(spec.ref).name}: no output of rank {', '.join(map(str, options.rank))}: {told}")
        paths += chosen
    return paths


def _cancel(options: argparse.Namespace) -> int:
    from spikedistill.launch.jobs.cancel import cancel, cancel_run
    from spikedistill.launch.jobs.find import JobFinder
    from spikedistill.launch.profile import site_profile

    if [bool(options.names), options.all, options.stale].count(True) != 1:
        raise ConfigError("cancel: name the stages, or give --all, or --stale")
    plan = load_plan(options)
    finder = JobFinder(plan, site_profile(options.profile))
    jobs = finder.find()
    if jobs.problem:
        print(f"note: {jobs.problem}", file=sys.stderr)
    chosen = _stale(jobs, options) if options.stale else _of_stages(jobs, plan, options.names)
    if options.dry_run:
        print(*(f"would end {found.name}, {found.job}, {found.job.state.lower()}" for found in chosen), sep="\n")
        return 0
    outcome = cancel_run(finder.find, chosen, finder.outputs) if options.all else cancel(chosen)
    for ended in outcome.ended:
        print(f"told to end: {ended}")
    for problem in outcome.problems:
        print(problem, file=sys.stderr)
    if not outcome.ended:
        print("no job was ended")
    return 1 if outcome.problems or (jobs.problem and not outcome.ended) else 0


def _of_stages(jobs: FoundJobs, plan: Plan, names: Sequence[str]) -> list[Found]:
    """Return the jobs of the named stages, of all for no name; tell which named ones have none."""
    refs = [spec.ref for spec in plan.select(names)] if names else list(plan.stages)
    for ref in refs if names else ():
        if not jobs.living([ref]):
            print(f"{plan.stages[ref].stage} {Path(ref).name} has no job that waits or runs")
    return jobs.living(refs)


def _stale(jobs: FoundJobs, options: argparse.Namespace) -> list[Found]:
    """Return the jobs whose stage is in no given configuration, and that no Snakemake which runs here makes."""
    from spikedistill.launch.jobs.attempts import job_names
    from spikedistill.launch.jobs.mains import main_processes, of_other_runs
    from spikedistill.launch.status.words import GIVE_IT

    kept = {name for files in options.needed_for for spec in plan_of_further(files).stages.values() for name in job_names(spec)}
    stale = [found for found in jobs.stale if found.name not in kept]
    driven = of_other_runs(stale, main_processes())
    for found in stale:
        if main := driven.get(found.job.job_id):
            left = f"{found.name} is left alone: Snakemake, {main}, makes it with another configuration"
            ended = "" if main.is_here else "; if that process has ended, run `snakemake --unlock` and try again"
            print(f"{left}; {GIVE_IT}, or press Ctrl-C there{ended}", file=sys.stderr)
    return [found for found in stale if found.job.job_id not in driven]


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


def _rank(text: str) -> int | str:
    if text != ALL and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number of a rank, from 0, or {ALL}; found {text}")
    return text if text == ALL else int(text)


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not LEAST_INTERVAL_S <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected {LEAST_INTERVAL_S:.0f} or more seconds; found {text}")
    return seconds
