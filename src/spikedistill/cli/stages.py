"""Single stages: `run` here, `submit` on a cluster."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from spikedistill import plugins
from spikedistill.cli.arguments import Commands, add_profile, add_stage_names, load_plan, store_argument
from spikedistill.cli.terminal.completion import offer
from spikedistill.cli.terminal.logs import start_logging
from spikedistill.cpus import own_cpus


def add(commands: Commands, configured: argparse.ArgumentParser) -> None:
    """Add the commands of this module."""
    _add_run(commands, configured)
    _add_submit(commands, configured)


def _add_run(commands: Commands, configured: argparse.ArgumentParser) -> None:
    run = commands.add_parser("run", parents=[configured, store_argument()], help="run stages here, now")
    which = run.add_mutually_exclusive_group(required=True)
    add_stage_names(which, nargs="*", note="; several run one after another")
    which.add_argument("--spec", metavar="JSON", help="the stage's spec, as `spikedistill plan --json` prints it")
    run.add_argument("--results", help="folder of the report and TensorBoard logs (default: as configured)")
    run.add_argument("--engine", metavar="JSON", help="how training runs (default: as configured)")
    run.add_argument("--plugins", nargs="+", default=[], metavar="PLUGIN", help="packages and folders (default: as configured)")
    run.add_argument("--raw", type=Path, help="folder of the downloaded data (default: as configured)")
    run.add_argument("--weights", type=Path, help="checkpoint to import, if the stage does (default: as configured)")
    run.add_argument(
        "--copies",
        type=Path,
        nargs="*",
        default=[],
        metavar="MANIFEST",
        help="manifests of upstream artifacts, or of copies of them",
    )
    run.add_argument("--gpus", type=int, default=0, metavar="N", help="GPUs per node that the job requested: never use the CPU")
    run.add_argument("--log-file", type=Path, help="write the log there too")
    run.set_defaults(command=_run)


def _add_submit(commands: Commands, configured: argparse.ArgumentParser) -> None:
    submit = commands.add_parser("submit", parents=[configured], help="submit stages through submitit, without Snakemake")
    add_stage_names(submit)
    add_profile(submit, "Snakemake profile with resources and site settings")
    submit.add_argument("--cluster", choices=["slurm", "local"], help="where (default: as the profile says, else slurm)")
    resources = submit.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="RESOURCE=VALUE",
        help="override a resource of these stages: nodes=2; several may follow",
    )
    offer(resources, _resource_names)
    submit.add_argument("--with-upstream", action="store_true", help="submit missing upstream stages too")
    submit.add_argument(
        "--dry-run", action="store_true", help="submit nothing; print the command and, for Slurm, the batch script"
    )
    submit.add_argument("--wait", action="store_true", help="on Slurm: wait for the end (local always waits)")
    submit.set_defaults(command=_submit)


def _resource_names(options: argparse.Namespace) -> Iterable[str]:
    from snakemake_executor_plugin_submitit.request.resources import NAMES

    return (f"{name}=" for name in sorted(NAMES))


def _run(options: argparse.Namespace) -> None:
    from spikedistill.launch.compiler_caches import keep_compiled_code
    from spikedistill.plan.stages import PreprocessSpec, parse_spec
    from spikedistill.stages.runner import RunOptions, run_stage
    from spikedistill.store.artifacts import Store
    from spikedistill.train.settings import EngineConfig, parse_engine_config

    start_logging(options.log_file)
    engine, num_workers = parse_engine_config(options.engine) if options.engine else None, own_cpus()
    if options.spec:
        plugins.activate(options.plugins)
        specs, raw, weights = [parse_spec(options.spec)], {}, {}
        store, results = options.store or "store", options.results or "results"
        engine = engine or EngineConfig()
    else:
        plan = load_plan(options)
        specs, raw, weights = plan.select(options.names), plan.raw, plan.weights
        store, results = options.store or plan.config.store, options.results or plan.config.results
        engine = engine or plan.config.engine
    Store(store).check()
    if not all(isinstance(spec, PreprocessSpec) for spec in specs):
        keep_compiled_code()
    copies = _copies(options.copies, Path(store))
    for spec in specs:
        run_options = RunOptions(
            results=Path(results),
            raw=options.raw or _path(raw.get(spec.ref)),
            num_workers=num_workers,
            engine=engine,
            gpus=options.gpus,
            weights=options.weights or _path(weights.get(spec.ref)),
            copies=copies,
        )
        run_stage(spec, Store(store), run_options)


def _copies(manifests: Iterable[Path], store: Path) -> dict[str, Path]:
    """Return the folders of those that do not lie in the store, by the name of the artifact."""
    folders = {manifest.parent.name: manifest.parent for manifest in manifests}
    return {name: folder for name, folder in folders.items() if not folder.resolve().is_relative_to(store.resolve())}


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _submit(options: argparse.Namespace) -> int:
    from spikedistill.launch.profile import parse_pairs
    from spikedistill.launch.submit import submit_stages

    return submit_stages(
        load_plan(options),
        options.names,
        profile=options.profile,
        cluster=options.cluster,
        overrides=parse_pairs(options.set, "--set"),
        with_upstream=options.with_upstream,
        wait=options.wait,
        dry_run=options.dry_run,
    )
