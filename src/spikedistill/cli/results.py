"""What came out of the stages: `report`, `sweep`, `compare`, `trace`, `export`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from spikedistill.cli.arguments import Commands, add_artifact_names, folder, load_plan, open_store, store_argument
from spikedistill.cli.terminal.logs import start_logging
from spikedistill.config.files import read_resolved
from spikedistill.errors import ConfigError
from spikedistill.plan.build import build_plan


def add(commands: Commands, configured: argparse.ArgumentParser) -> None:
    """Add the commands of this module."""
    for each in (_add_report, _add_sweep, _add_compare, _add_trace, _add_export):
        each(commands, configured)


def _add_report(commands: Commands, configured: argparse.ArgumentParser) -> None:
    report = commands.add_parser("report", parents=[configured], help="write the tables and figures; print the table")
    report.add_argument("--resolved", type=Path, metavar="FILE", help="the whole configuration as JSON, instead of --configfile")
    report.add_argument("--log-file", type=Path, help="write the log there too")
    report.set_defaults(command=_report)


def _add_sweep(commands: Commands, configured: argparse.ArgumentParser) -> None:
    sweep = commands.add_parser("sweep", parents=[configured], help="rank the runs of sweeps by the validation split")
    sweep.add_argument("what", choices=["best"], help="best: every sweep, its best run first")
    sweep.set_defaults(command=_sweep)


def _add_compare(commands: Commands, configured: argparse.ArgumentParser) -> None:
    compare = commands.add_parser(
        "compare", parents=[configured, store_argument()], help="compare networks of the store side by side"
    )
    compare.add_argument(
        "names",
        nargs="+",
        metavar="NAME",
        help="teacher, student or evaluation, the beginning of a name, or a pattern such as '*kd*'",
    )
    compare.set_defaults(command=_compare)


def _add_trace(commands: Commands, configured: argparse.ArgumentParser) -> None:
    trace = commands.add_parser(
        "trace",
        parents=[configured, store_argument()],
        help="show what is behind a figure, a table or an artifact, and what was made of it",
    )
    trace.add_argument("target", help="a file of the report, such as results/results.csv, or an artifact; a beginning will do")
    trace.add_argument("--results", help="folder of the report (default: as configured)")
    trace.add_argument("--json", action="store_true", help="print it as JSON")
    trace.set_defaults(command=_trace)


def _add_export(commands: Commands, configured: argparse.ArgumentParser) -> None:
    export = commands.add_parser(
        "export", parents=[configured, store_argument()], help="write a network with a model card, on request as NIR"
    )
    add_artifact_names(export, "teacher or student")
    export.add_argument("--out", type=folder, help="a new folder, for a single network (default: exports/NAME)")
    export.add_argument("--nir", action="store_true", help="also as a NIR graph, for neuromorphic back ends")
    export.set_defaults(command=_export)


def _report(options: argparse.Namespace) -> None:
    from spikedistill.report.collect import collect
    from spikedistill.report.findings import Findings
    from spikedistill.report.tables.plain import terminal_table
    from spikedistill.report.tensorboard import write_tensorboard
    from spikedistill.report.writer import backdate, write_report
    from spikedistill.store.artifacts import Store

    start_logging(options.log_file)
    plan = build_plan(read_resolved(options.resolved)) if options.resolved else load_plan(options)
    findings = Findings.of(collect(plan, Store(plan.config.store)))
    files = write_report(findings, Path(plan.config.results))
    if findings.comparison.is_partial:
        backdate(files)
    write_tensorboard(findings.comparison.records, Path(plan.config.results) / "tensorboard")
    print(terminal_table(findings.rows))


def _sweep(options: argparse.Namespace) -> None:
    from spikedistill.report.collect import collect
    from spikedistill.report.sections.ranking import rank_sweeps, ranking_table
    from spikedistill.store.artifacts import Store

    plan = load_plan(options)
    print(ranking_table(rank_sweeps(collect(plan, Store(plan.config.store)).records)))


def _compare(options: argparse.Namespace) -> None:
    from spikedistill.report.compare import compare

    print(compare(open_store(options), options.names))


def _trace(options: argparse.Namespace) -> None:
    from spikedistill.report.trace import as_text, trace
    from spikedistill.store.artifacts import Store

    if options.store and options.results:
        found = trace(options.target, open_store(options), Path(options.results))
    else:
        config = load_plan(options).config
        found = trace(options.target, Store(options.store or config.store), Path(options.results or config.results))
    print(json.dumps(found, indent=1) if options.json else as_text(found))


def _export(options: argparse.Namespace) -> None:
    from spikedistill.export.folder import refuse_to_replace, write_export
    from spikedistill.plan.stages import network_role

    store = open_store(options)
    refs = store.select(options.names, [ref for ref in store.refs() if network_role(ref)])
    if options.out and len(refs) > 1:
        raise ConfigError(f"--out {options.out}: one folder for {len(refs)} networks; leave it out, or name one network")
    targets = {ref: options.out or Path("exports") / Path(ref).name for ref in refs}
    for target in targets.values():
        refuse_to_replace(target)
    for ref, target in targets.items():
        print(*write_export(store, ref, target, nir=options.nir), sep="\n")
