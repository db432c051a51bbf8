"""One stage at a time: `run` here, `submit` on a cluster."""

from __future__ import annotations

import argparse
from pathlib import Path

from spikedistill import plugins
from spikedistill.cli.arguments import Commands, load_plan, store_argument
from spikedistill.cli.terminal.logs import start_logging
from spikedistill.cpus import own_cpus


def add(commands: Commands, configured: argparse.ArgumentParser) -> None:
    """Add the commands of this module."""
    _add_run(commands, configured)
    _add_submit(commands, configured)


def _add_run(commands: Commands, configured: argparse.ArgumentParser) -> None:
    run = commands.add_parser("run", parents=[configured, store_argument()], help="run one stage here, now")
    which = run.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?", help="the stage's artifact, or an unambiguous beginning of its name")
    which.add_argument("--spec", metavar="JSON", help="the stage's spec, as `spikedistill plan --json` prints it")
    run.add_argument("--results", help="folder of the report and TensorBoard logs (default: as configured)")
    run.add_argument("--engine", metavar="JSON", help="how training runs (default: as configured)")
    run.add_argument("--plugins", nargs="+", default=[], metavar="PLUGIN", help="packages and folders (default: as configured)")
    run.add_argument("--raw", type=Path, help="folder of the downloaded data (default: as configured)")
    run.add_argument("--weights", type=Path, help="checkpoint to import, if the stage does (default: as configured)")
    run.add_argument("--gpus", type=int, default=0, metavar="N", help="GPUs per node that the job requested: never use the CPU")
    run.add_argument("--log-file", type=Path, help="write the log there too")
    run.set_defaults(command=_run)


def _add_submit(commands: Commands, configured: argparse.ArgumentParser) -> None:
    submit = commands.add_parser("submit", parents=[configured], help="submit one stage through submitit")
    submit.add_argument("name", help="the stage's artifact, or an unambiguous beginning of its name")
    submit.add_argument("--profile", help="Snakemake profile with resources and site settings (default: cluster, if there)")
    submit.add_argument("--cluster", choices=["slurm", "local"], help="where (default: as the profile says, else slurm)")
    submit.add_argument(
        "--set", nargs="+", default=[], metavar="RESOURCE=VALUE", help="override a resource of this stage: nodes=2 …"
    )
    submit.add_argument("--with-upstream", action="store_true", help="submit missing upstream stages too")
    submit.add_argument(
        "--dry-run", action="store_true", help="submit nothing; print the command and, for Slurm, the batch script"
    )
    submit.add_argument("--wait", action="store_true", help="on Slurm: wait for the end (local always waits)")
    submit.set_defaults(command=_submit)


def _run(options: argparse.Namespace) -> None:
    from spikedistill.launch.compiler_caches import keep_compiled_code
    from spikedistill.plan.stages import PreprocessSpec, parse_spec
    from spikedistill.stages.runner import RunOptions, run_stage
    from spikedistill.store.artifacts import Store
    from spikedistill.train.settings import EngineConfig, parse_engine_config

    start_logging(options.log_file)
    if options.spec:
        plugins.activate(options.plugins)
        spec = parse_spec(options.spec)
        store, results, raw = options.store or "store", options.results or "results", options.raw
        weights = options.weights
        engine = EngineConfig()
    else:
        plan = load_plan(options)
        spec = plan.find(options.name)
        store, results = options.store or plan.config.store, options.results or plan.config.results
        raw = options.raw or (Path(plan.raw[spec.ref]) if spec.ref in plan.raw else None)
        weights = options.weights or (Path(plan.weights[spec.ref]) if spec.ref in plan.weights else None)
        engine = plan.config.engine
    if options.engine:
        engine = parse_engine_config(options.engine)
    Store(store).check()
    if not isinstance(spec, PreprocessSpec):
        keep_compiled_code()
    run_stage(spec, Store(store), RunOptions(Path(results), raw, own_cpus(), engine, options.gpus, weights))


def _submit(options: argparse.Namespace) -> int:
    from spikedistill.launch.profile import parse_pairs
    from spikedistill.launch.submit import submit_stage

    return submit_stage(
        load_plan(options),
        options.name,
        profile=options.profile,
        cluster=options.cluster,
        overrides=parse_pairs(options.set, "--set"),
        with_upstream=options.with_upstream,
        wait=options.wait,
        dry_run=options.dry_run,
    )
