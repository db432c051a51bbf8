"""The `spikedistill` command: parse arguments, call one function, print results and errors. Imports no torch itself."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import spikedistill
from spikedistill import components
from spikedistill.config.check import parse_config
from spikedistill.config.files import read_config, read_resolved
from spikedistill.errors import ConfigError, SpikedistillError
from spikedistill.plan.build import Plan, build_plan

if TYPE_CHECKING:
    from spikedistill.store.artifacts import Store


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 done, 1 a problem the user can fix, 2 wrong usage, 130 interrupted."""
    options = _parser().parse_args(arguments)
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
    parser = argparse.ArgumentParser(prog="spikedistill", description=spikedistill.__doc__)
    parser.add_argument("--version", action="version", version=f"spikedistill {spikedistill.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    configured = _config_arguments()
    _add_plan_commands(commands, configured)
    _add_stage_commands(commands, configured)
    _add_check_commands(commands, configured)
    _add_store_commands(commands, configured)
    return parser


def _config_arguments() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--configfile",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="configuration; later files win (default: config.yaml)",
    )
    shared.add_argument(
        "--config", nargs="+", default=[], metavar="KEY=VALUE", help="override a key of it; a dot goes one level down"
    )
    return shared


def _add_plan_commands(commands: argparse._SubParsersAction, configured: argparse.ArgumentParser) -> None:  # type: ignore[type-arg]
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
    listing = commands.add_parser("list", help="list the methods, datasets or architectures that a config can name")
    listing.add_argument("what", choices=["methods", "datasets", "architectures"])
    listing.add_argument("name", nargs="?", help="one method or dataset: its parameters, their defaults and meaning")
    listing.set_defaults(command=_list)
    schema = commands.add_parser("schema", help="print the JSON schema of config.yaml, for editors, or its reference, to read")
    schema.add_argument("--docs", action="store_true", help="the reference, in Markdown, instead of the schema")
    schema.set_defaults(command=_schema)
    generate = commands.add_parser("generate", help="in a checkout: write schema, reference and generated tables again")
    generate.set_defaults(command=_generate)
    lock = commands.add_parser("lock", help="in a checkout: show the code that does not fit components.lock, or lock it")
    lock.add_argument("--keep", nargs="+", default=[], metavar="MODULE", help="results stay the same: keep the version")
    lock.add_argument("--bump", nargs="+", default=[], metavar="MODULE", help="results change: take the next version")
    lock.set_defaults(command=_lock)


def _add_stage_commands(commands: argparse._SubParsersAction, configured: argparse.ArgumentParser) -> None:  # type: ignore[type-arg]
    run = commands.add_parser("run", parents=[configured], help="run one stage here, now")
    which = run.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?", help="the stage's artifact, or an unambiguous beginning of its name")
    which.add_argument("--spec", metavar="JSON", help="the stage's spec, as `spikedistill plan --json` prints it")
    run.add_argument("--store", help="folder of the artifacts (default: as configured)")
    run.add_argument("--results", help="folder of the report and TensorBoard logs (default: as configured)")
    run.add_argument("--engine", metavar="JSON", help="how training runs (default: as configured)")
    run.add_argument("--raw", type=Path, help="folder of the downloaded data (default: as configured)")
    run.add_argument("--gpus", type=int, default=0, metavar="N", help="GPUs per node that the job requested: never use the CPU")
    run.add_argument("--log-file", type=Path, help="write the log there too")
    run.set_defaults(command=_run)
    report = commands.add_parser("report", parents=[configured], help="write the tables and figures; print the table")
    report.add_argument("--resolved", type=Path, metavar="FILE", help="the whole configuration as JSON, instead of --configfile")
    report.add_argument("--log-file", type=Path, help="write the log there too")
    report.set_defaults(command=_report)
    sweep = commands.add_parser("sweep", parents=[configured], help="rank the runs of sweeps by the validation split")
    sweep.add_argument("what", choices=["best"], help="best: every sweep, its best run first")
    sweep.set_defaults(command=_sweep)
    compare = commands.add_parser("compare", parents=[configured], help="compare networks of the store side by side")
    compare.add_argument(
        "names", nargs="+", metavar="NAME", help="teacher, student or evaluation; the beginning of a name will do"
    )
    compare.add_argument("--store", help="folder of the artifacts (default: as configured)")
    compare.set_defaults(command=_compare)
    export = commands.add_parser("export", parents=[configured], help="write a network with a model card, on request as NIR")
    export.add_argument("name", help="teacher or student; the beginning of a name will do")
    export.add_argument("--store", help="folder of the artifacts (default: as configured)")
    export.add_argument("--out", type=Path, help="a new folder (default: exports/NAME)")
    export.add_argument("--nir", action="store_true", help="also as a NIR graph, for neuromorphic back ends")
    export.set_defaults(command=_export)
    submit = commands.add_parser("submit", parents=[configured], help="submit one stage through submitit")
    submit.add_argument("name", help="the stage's artifact, or an unambiguous beginning of its name")
    submit.add_argument("--profile", help="Snakemake profile with resources and site settings (default: cluster, if there)")
    submit.add_argument("--cluster", choices=["slurm", "local"], help="where (default: as the profile says, else slurm)")
    submit.add_argument(
        "--set", nargs="+", default=[], metavar="RESOURCE=VALUE", help="override a resource of this stage: nodes=2 …"
    )
    submit.add_argument("--with-upstream", action="store_true", help="submit missing upstream stages too")
    submit.add_argument("--wait", action="store_true", help="on Slurm: wait for the end (local always waits)")
    submit.set_defaults(command=_submit)


def _add_check_commands(commands: argparse._SubParsersAction, configured: argparse.ArgumentParser) -> None:  # type: ignore[type-arg]
    verify = commands.add_parser("verify", parents=[configured], help="compare every artifact with its checksums")
    verify.add_argument("name", nargs="*", help="only these artifacts (default: the whole store)")
    verify.add_argument("--set-aside", action="store_true", help="move damaged ones away, so that they are built again")
    verify.set_defaults(command=_verify)
    doctor = commands.add_parser("doctor", parents=[configured], help="check config, torch, Slurm and the store")
    doctor.add_argument("--profile", help="the Snakemake profile to check (default: cluster, if there)")
    doctor.set_defaults(command=_doctor)


def _add_store_commands(commands: argparse._SubParsersAction, configured: argparse.ArgumentParser) -> None:  # type: ignore[type-arg]
    trace = commands.add_parser(
        "trace", parents=[configured], help="show what is behind a figure, a table or an artifact, and what was made of it"
    )
    trace.add_argument("target", help="a file of the report, such as results/results.csv, or an artifact; a beginning will do")
    trace.add_argument("--store", help="folder of the artifacts (default: as configured)")
    trace.add_argument("--results", help="folder of the report (default: as configured)")
    trace.add_argument("--json", action="store_true", help="print it as JSON")
    trace.set_defaults(command=_trace)
    store = commands.add_parser("store", help="keep house in the store: ls, du, prune, pull, push, upgrade")
    actions = store.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_store_views, _add_store_changes, _add_store_transfers):
        add(actions, configured)


def _add_store_views(actions: argparse._SubParsersAction, configured: argparse.ArgumentParser) -> None:  # type: ignore[type-arg]
    listing = actions.add_parser(
        "ls",
        parents=[configured, _needs_arguments()],
        help="list the artifacts: size, age, commit, which configurations need them",
    )
    listing.add_argument("name", nargs="*", help="only artifacts whose name, or folder/name, begins so (default: all)")
    listing.add_argument("--json", action="store_true", help="print them as JSON, one a line, with their specs")
    listing.set_defaults(command=_store_ls)
    usage = actions.add_parser("du", parents=[configured, _store_argument()], help="show what takes how much")
    usage.set_defaults(command=_store_du)


def _add_store_changes(actions: argparse._SubParsersAction, configured: argparse.ArgumentParser) -> None:  # type: ignore[type-arg]
    prune = actions.add_parser(
        "prune",
        parents=[configured, _needs_arguments()],
        help="remove what no given configuration, no running job and no kept artifact needs",
    )
    prune.add_argument(
        "--older-than", default="30d", metavar="AGE", help="only what is in the store for longer: 12h, 30d, 8w (default: 30d)"
    )
    prune.add_argument("--yes", action="store_true", help="remove it; without this, only show what would go")
    prune.set_defaults(command=_store_prune)
    upgrade = actions.add_parser(
        "upgrade", parents=[configured, _store_argument()], help="take over the artifacts of an earlier version of spikedistill"
    )
    upgrade.add_argument("--yes", action="store_true", help="do it; without this, only show what would be done")
    upgrade.set_defaults(command=_store_upgrade)


def _add_store_transfers(actions: argparse._SubParsersAction, configured: argparse.ArgumentParser) -> None:  # type: ignore[type-arg]
    place = "a folder, or HOST:FOLDER for rsync over ssh"
    pull = actions.add_parser(
        "pull", parents=[configured, _store_argument()], help="copy artifacts and what they were made from out of another store"
    )
    pull.add_argument("place", metavar="SOURCE", help=f"the other store: {place}")
    pull.add_argument("name", nargs="+", help="artifacts; an unambiguous beginning of a name will do")
    pull.set_defaults(command=_store_pull)
    push = actions.add_parser(
        "push", parents=[configured, _store_argument()], help="copy artifacts and what they were made from into another store"
    )
    push.add_argument("place", metavar="TARGET", help=f"the other store, which exists: {place}")
    push.add_argument("name", nargs="+", help="artifacts; an unambiguous beginning of a name will do")
    push.set_defaults(command=_store_push)


def _store_argument() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--store", help="folder of the artifacts (default: as configured)")
    return shared


def _needs_arguments() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False, parents=[_store_argument()])
    shared.add_argument(
        "--for",
        dest="needed_for",
        action="append",
        nargs="+",
        default=[],
        type=Path,
        metavar="FILE",
        help="a further configuration whose artifacts are needed; give --for again for each (files after one --for are merged)",
    )
    return shared


def _load_plan(options: argparse.Namespace) -> Plan:
    files = options.configfile or [Path("config.yaml")]
    return build_plan(parse_config(read_config(files, options.config), source=", ".join(map(str, files))))


def _plan(options: argparse.Namespace) -> None:
    from spikedistill.launch.profile import set_resources, site_profile
    from spikedistill.launch.resources import stage_cost
    from spikedistill.plan.estimate import Cost, Estimator
    from spikedistill.plan.stages import Spec
    from spikedistill.plan.tables import plan_table, run_table

    plan = _load_plan(options)
    if options.json:
        for spec in plan.stages.values():
            print(spec.model_dump_json())
        return
    profile = site_profile(options.profile)
    estimator = Estimator(plan)

    def cost_of(spec: Spec) -> Cost:
        return stage_cost(estimator, spec, set_resources(spec.stage, profile))

    print(run_table(plan, cost_of) if options.table else plan_table(plan, cost_of))


def _status(options: argparse.Namespace) -> None:
    from spikedistill.launch.status import status_table

    print(status_table(_load_plan(options)))


def _logs(options: argparse.Namespace) -> int:
    from spikedistill.launch.command import stage_log

    spec = _load_plan(options).find(options.name)
    path = stage_log(spec)
    if not path.exists():
        print(f"no log yet: {path} (the stage did not start in this working directory)", file=sys.stderr)
        return 1
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    print(f"==> {path} <==", *lines[-options.lines :], sep="\n")
    return 0


def _list(options: argparse.Namespace) -> None:
    if options.what == "architectures":
        if options.name:
            raise ConfigError("an architecture has no parameters to list; say: spikedistill list architectures")
        for name, (module, _) in components.architectures().items():
            print(f"{name:20} models/{module}.py")
        return
    kind: components.Kind = "distill" if options.what == "methods" else "data.datasets"
    if options.name:
        _list_parameters(kind, options.name)
        return
    for name in components.names(kind):
        first_line = (components.load(kind, name).__doc__ or "").strip().partition("\n")[0]
        print(f"{name:20} {first_line}")


def _list_parameters(kind: components.Kind, name: str) -> None:
    try:
        component = components.load(kind, name)
    except KeyError as err:
        what = "method" if kind == "distill" else "dataset"
        raise ConfigError(components.unknown(what, name, components.names(kind))) from err
    print((component.__doc__ or "").strip())
    for key, entry in component.Params.model_json_schema()["properties"].items():
        options: dict[str, Any] = next((each for each in [entry, *entry.get("anyOf", [])] if each.keys() & {"enum", "type"}), {})
        allowed = " | ".join(map(str, options.get("enum", [options.get("type", "")])))
        text = f"{allowed}, default {json.dumps(entry.get('default'))}. {entry.get('description', '')}"
        print(textwrap.fill(text, 120, initial_indent=f"\n  {key}: ", subsequent_indent="      "))


def _schema(options: argparse.Namespace) -> None:
    from spikedistill.config.reference import configuration_reference
    from spikedistill.config.schema import schema_text

    print(configuration_reference() if options.docs else schema_text(), end="")


def _generate(options: argparse.Namespace) -> None:
    from spikedistill.config.generated import generated_files, write_stale
    from spikedistill.plan.defaults import FILE, defaults_text

    for file in write_stale(generated_files() | {FILE: defaults_text()}):
        print(f"wrote {file}")


def _lock(options: argparse.Namespace) -> int:
    from spikedistill.plan.code import lock, unlocked

    if options.keep or options.bump:
        lock(options.keep, options.bump)
    changed = unlocked()
    for module, reason in changed.items():
        print(f"{module} {reason}")
    print(f"{len(changed)} modules do not fit the lock" if changed else "all modules fit the lock")
    return int(bool(changed))


def _run(options: argparse.Namespace) -> None:
    from spikedistill.plan.stages import parse_spec
    from spikedistill.stages.runner import RunOptions, run_stage
    from spikedistill.store.artifacts import Store
    from spikedistill.train.settings import EngineConfig, parse_engine_config

    start_logging(options.log_file)
    if options.spec:
        spec = parse_spec(options.spec)
        store, results, raw = options.store or "store", options.results or "results", options.raw
        engine = EngineConfig()
    else:
        plan = _load_plan(options)
        spec = plan.find(options.name)
        store, results = options.store or plan.config.store, options.results or plan.config.results
        raw = options.raw or (Path(plan.raw[spec.ref]) if spec.ref in plan.raw else None)
        engine = plan.config.engine
    if options.engine:
        engine = parse_engine_config(options.engine)
    Store(store).check()
    run_stage(spec, Store(store), RunOptions(Path(results), raw, len(os.sched_getaffinity(0)), engine, options.gpus))


def _report(options: argparse.Namespace) -> None:
    from spikedistill.report.collect import collect
    from spikedistill.report.tables import terminal_table
    from spikedistill.report.tensorboard import write_tensorboard
    from spikedistill.report.writer import backdate, write_report
    from spikedistill.store.artifacts import Store

    start_logging(options.log_file)
    plan = build_plan(read_resolved(options.resolved)) if options.resolved else _load_plan(options)
    comparison = collect(plan, Store(plan.config.store))
    files = write_report(comparison, Path(plan.config.results))
    if comparison.is_partial:
        backdate(files)
    write_tensorboard(comparison.records, Path(plan.config.results) / "tensorboard")
    print(terminal_table(comparison))


def _sweep(options: argparse.Namespace) -> None:
    from spikedistill.report.collect import collect
    from spikedistill.report.sections.ranking import rank_sweeps, ranking_table
    from spikedistill.store.artifacts import Store

    plan = _load_plan(options)
    print(ranking_table(rank_sweeps(collect(plan, Store(plan.config.store)).records)))


def _compare(options: argparse.Namespace) -> None:
    from spikedistill.report.compare import compare
    from spikedistill.store.artifacts import Store

    print(compare(Store(options.store or _load_plan(options).config.store), options.names))


def _export(options: argparse.Namespace) -> None:
    from spikedistill.export.folder import write_export
    from spikedistill.store.artifacts import Store

    store = Store(options.store or _load_plan(options).config.store)
    ref = store.find(options.name)
    print(*write_export(store, ref, options.out or Path("exports") / Path(ref).name, nir=options.nir), sep="\n")


def _submit(options: argparse.Namespace) -> int:
    from spikedistill.launch.profile import parse_pairs
    from spikedistill.launch.submit import submit_stage

    return submit_stage(
        _load_plan(options),
        options.name,
        profile=options.profile,
        cluster=options.cluster,
        overrides=parse_pairs(options.set, "--set"),
        with_upstream=options.with_upstream,
        wait=options.wait,
    )


def _verify(options: argparse.Namespace) -> int:
    from spikedistill.store.artifacts import Store

    plan = _load_plan(options)
    store = Store(plan.config.store)
    refs = [plan.find(name).ref for name in options.name] if options.name else store.refs()
    damaged = 0
    for ref in refs:
        try:
            damage = store.verify(ref)
        except FileNotFoundError:
            print(f"missing  {ref}")
            continue
        print(f"{'damaged' if damage else 'ok':8} {damage or ref}")
        if damage:
            damaged += 1
            if options.set_aside:
                print(f"         moved to {store.set_aside(ref)}; run snakemake to have it built again")
    print(f"{len(refs)} artifacts, {damaged} damaged")
    return 1 if damaged and not options.set_aside else 0


def _trace(options: argparse.Namespace) -> None:
    from spikedistill.report.trace import as_text, trace

    config = None if options.store and options.results else _load_plan(options).config
    results = Path(options.results or (config.results if config else "results"))
    found = trace(options.target, _open_store(options), results)
    print(json.dumps(found, indent=1) if options.json else as_text(found))


def _open_store(options: argparse.Namespace) -> Store:
    from spikedistill.store.artifacts import Store

    if options.store:
        return Store(options.store)
    files = next(iter(_given_configs(options)), [Path("config.yaml")])
    return Store(_plan_of(files, options).config.store)


def _given_configs(options: argparse.Namespace) -> list[list[Path]]:
    """Return the files of each given configuration: --configfile, or config.yaml if it is there, and what --for names."""
    default = [Path("config.yaml")]
    main = options.configfile or (default if default[0].exists() else None)
    return ([main] if main else []) + getattr(options, "needed_for", [])


def _plan_of(files: Sequence[Path], options: argparse.Namespace) -> Plan:
    """Return the plan of a configuration; --config overrides that of --configfile only."""
    overrides = options.config if files not in getattr(options, "needed_for", []) else ()
    return build_plan(parse_config(read_config(files, overrides), source=", ".join(map(str, files))))


def _needed(options: argparse.Namespace) -> dict[str, frozenset[str]]:
    """Return what each given configuration needs: name to show -> references of artifacts."""
    return {" + ".join(map(str, files)): frozenset(_plan_of(files, options).stages) for files in _given_configs(options)}


def _store_ls(options: argparse.Namespace) -> None:
    from spikedistill.plan.takeover import summary, takeovers
    from spikedistill.store.inventory import artifacts, as_json, listing

    store, needed = _open_store(options), _needed(options)
    entries = artifacts(store)
    shown = [
        entry
        for entry in entries.values()
        if not options.name or any(components.matching(name, [entry.ref]) for name in options.name)
    ]
    if options.json:
        for entry in shown:
            print(json.dumps(as_json(entry, needed)))
        return
    print(listing(shown, needed))
    note = summary(takeovers(store, entries))
    print(f"\n{len(shown)} artifacts in {store.root}" + (f"\n{note}" if note else ""))


def _store_du(options: argparse.Namespace) -> None:
    from spikedistill.store.inventory import usage

    print(usage(_open_store(options)))


def _store_prune(options: argparse.Namespace) -> int:
    from spikedistill.store.housekeeping import describe, plan_prune, remove
    from spikedistill.store.inventory import format_size, parse_age

    if not _given_configs(options):
        raise ConfigError("there is no config.yaml here: name each configuration whose artifacts are to stay, with --for FILE")
    store = _open_store(options)
    prune = plan_prune(store, _needed(options), parse_age(options.older_than))
    print(describe(prune, store))
    if not options.yes:
        print("nothing was removed; with --yes it is")
        return 0
    problems = remove(store, prune)
    print(*problems, f"removed: {len(prune) - len(problems)} of {len(prune)}, {format_size(prune.size)} in all", sep="\n")
    return int(bool(problems))


def _store_upgrade(options: argparse.Namespace) -> int:
    from spikedistill.plan.takeover import describe, summary, take_over, takeovers

    store = _open_store(options)
    found = takeovers(store)
    if not found:
        print("every artifact is of this version: nothing to do")
        return 0
    if not options.yes:
        print(describe(found), "", summary(found), "nothing was changed; with --yes it is", sep="\n")
        return 0
    lines = []
    for line in take_over(store, found):
        print(line, flush=True)
        lines.append(line)
    return int(any(line.startswith("left") for line in lines))


def _store_pull(options: argparse.Namespace) -> None:
    from spikedistill.store.transfer import open_place, pull

    for line in pull(open_place(options.place), _open_store(options), options.name):
        print(line, flush=True)


def _store_push(options: argparse.Namespace) -> None:
    from spikedistill.store.transfer import open_place, push

    for line in push(open_place(options.place), _open_store(options), options.name):
        print(line, flush=True)


def _doctor(options: argparse.Namespace) -> int:
    from spikedistill.launch.doctor import run_checks

    return run_checks(lambda: _load_plan(options), options.profile)


def start_logging(file: Path | None) -> None:
    """Log to stderr, and on rank 0 to a file too."""
    rank = int(os.environ.get("RANK", "0"))
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if file is not None and rank == 0:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(file, encoding="utf-8"))
    prefix = f"[rank {rank}] " if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""
    logging.basicConfig(
        level=logging.INFO if rank == 0 else logging.WARNING,
        format=f"%(asctime)s {prefix}%(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        handlers=handlers,
    )
