# What the rules share: the plan, and small functions that look things up in it.
import atexit
import sys
from functools import cache, partial
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from spikedistill.store.artifacts import Store
from spikedistill.launch.command import stage_arguments
from spikedistill.config.check import parse_config, write_resolved
from spikedistill.errors import SpikedistillError
from spikedistill.plan.estimate import Estimator
from spikedistill.plan.build import build_plan
from spikedistill.plan.tables import Settled, cost_line
from spikedistill.launch.resources import ANY_COST, NAMES, REPORT_COST, needed, stage_cost

min_version("9.0")


def load_plan():
    files = [Path(file).name for file in workflow.configfiles]
    try:
        plan = build_plan(parse_config(config, source=", ".join(files) or "config"))
        Store(plan.config.store).check()
        return plan
    except SpikedistillError as err:
        raise WorkflowError(str(err)) from None


PLAN = load_plan()
STORE = Store(PLAN.config.store)
SETTLED = Settled(PLAN, STORE)
ESTIMATOR = Estimator(PLAN)
RESOLVED_CONFIG = str(Path(PLAN.config.results) / "config.json")


onstart:
    write_resolved(config, Path(RESOLVED_CONFIG))
    logger.info(what_it_costs())


if workflow.is_main_process:  # a dry run says it last, below its list of jobs
    atexit.register(lambda: workflow.dryrun and print(what_it_costs(), file=sys.stderr))


wildcard_constraints:
    name="[A-Za-z0-9_.-]+",


def artifact(kind):
    return str(STORE.root / kind / "{name}" / "manifest.json")


def spec_of(kind, wildcards):
    ref = f"{kind}/{wildcards.name}"
    if ref not in PLAN.stages:
        raise WorkflowError(
            f"{ref}: not in the configuration; was it edited while jobs of an earlier run waited?"
        )
    return PLAN.stages[ref]


def arguments(kind):
    return lambda wildcards: stage_arguments(PLAN, spec_of(kind, wildcards))


def upstream(kind, role):
    """The manifest that a stage reads; its age does not matter to a stage that was made from it."""

    def find(wildcards):
        spec = spec_of(kind, wildcards)
        if role not in spec.upstream:
            return []
        manifest = str(STORE.manifest_path(spec.upstream[role]))
        return ancient(manifest) if spec.ref in SETTLED else manifest

    return find


def lost_artifacts(wildcards):
    """What the report does not need any more, but a later run may: asked for, so that it is made again."""
    return [str(STORE.manifest_path(ref)) for ref in SETTLED.lost()]


def evaluations(wildcards):
    return [str(STORE.manifest_path(row.evaluation)) for row in PLAN.rows]


def report_file(name):
    return str(Path(PLAN.config.results) / name)


def asked(stage):
    """What the profile or the command line sets for the rule of a stage."""
    overwritten = workflow.resource_settings.overwrite_resources
    given = overwritten[stage] if stage in overwritten else {}
    return {name: getattr(given[name], "raw", given[name]) for name in given}


def check_resources():
    for stage in ("preprocess", "teacher", "distill", "evaluate", "report"):
        try:
            needed(lambda gpus: ANY_COST, asked(stage))
        except SpikedistillError as err:
            raise WorkflowError(f"{stage}: {err}") from None


check_resources()


def needs(stage, kind):
    """Resources of the rule of a stage, by its estimate; a retry asks for more memory."""

    @cache
    def need(ref, attempt):
        return needed(partial(ESTIMATOR, ref), asked(stage), attempt)

    def find(name):
        return lambda wildcards, attempt: need(spec_of(kind, wildcards).ref, attempt)[
            name
        ]

    return {name: find(name) for name in NAMES}


def what_it_costs():
    return cost_line(
        PLAN, SETTLED, lambda spec: stage_cost(ESTIMATOR, spec, asked(spec.stage))
    )
