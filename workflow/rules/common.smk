# What the rules share: the plan, and small functions that look things up in it.
import atexit
import shlex
import sys
from functools import cache, partial
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version


from spikedistill.config.check import parse_config
from spikedistill.config.files import read_config, write_resolved
from spikedistill.errors import SpikedistillError
from spikedistill.launch.command import RUN, log_of, stage_arguments
from spikedistill.launch.resources import (
    PLACEHOLDER_COST,
    NAMES,
    REPORT_COST,
    gpu_model,
    gpus_per_node,
    required_resources,
    stage_cost,
)
from spikedistill.plan.build import build_plan
from spikedistill.plan.estimate import Estimator
from spikedistill.plan.stages import RULES, STAGES
from spikedistill.plan.tables import code_lines, cost_line, expected_steps
from spikedistill.plan.uptodate import UpToDate
from spikedistill.store.artifacts import Store

min_version("9.20")


def read_configuration():
    """The configuration as `spikedistill --configfile … --config …` reads it, and what to call it in messages.

    Snakemake's own `config` would differ: it lets the file's aliases share one object, and leaves out config.yaml after a
    --config of experiments. It is used only where another workflow includes this one as a module.
    """
    if workflow.modifier.skip_configfile:
        return config, "config of the module"
    files = [Path(file) for file in workflow.overwrite_configfiles or ["config.yaml"]]
    arguments = workflow.config_settings.config_args or []
    return read_config(files, arguments), ", ".join(file.name for file in files)


def load_plan():
    try:
        values, source = read_configuration()
        plan = build_plan(parse_config(values, source=source))
        Store(plan.config.store).check()
        return values, plan, Estimator(plan)
    except SpikedistillError as err:
        raise WorkflowError(str(err)) from None


CONFIGURATION, PLAN, ESTIMATOR = load_plan()
STORE = Store(PLAN.config.store)
UP_TO_DATE = UpToDate(PLAN, STORE)
RUN_STAGE = f"{shlex.join(RUN)} {{params.arguments:q}} --gpus {{params.gpus}} --log-file {{log:q}}"
# the resource stage_in has jobs read copies on the node's own disk
RUN_ON_UPSTREAM = f"{RUN_STAGE} --copies {{input:q}}"
REPORT_LOG = log_of("report", "report")
RESOLVED_CONFIG = str(Path(PLAN.config.results) / "config.json")


onstart:
    write_resolved(CONFIGURATION, Path(RESOLVED_CONFIG))
    logger.info(what_it_costs(), extra={"expected": what_is_expected()})


if workflow.is_main_process:  # a dry run says it last, below its list of jobs
    atexit.register(lambda: workflow.dryrun and print(what_it_costs(), file=sys.stderr))


wildcard_constraints:
    name="[A-Za-z0-9_.-]+",


def artifact(stage):
    """The pattern of the manifests that a stage makes."""
    return str(STORE.root / STAGES[stage].folder / "{name}" / "manifest.json")


def spec_of(stage, wildcards):
    ref = f"{STAGES[stage].folder}/{wildcards.name}"
    if ref not in PLAN.stages:
        raise WorkflowError(
            f"{ref}: not in the plan any more: configuration or code was changed after this job was submitted, "
            "or the files of a dataset or a checkpoint were. "
            + "; ".join(code_lines(PLAN))
        )
    return PLAN.stages[ref]


def arguments(stage):
    return lambda wildcards: stage_arguments(PLAN, spec_of(stage, wildcards))


def gpus(wildcards, resources):
    """GPUs that a job requests on each node; its stage refuses to run on the CPU instead."""
    return gpus_per_node(dict(resources.items()))


def upstream(stage, role):
    """The manifest that a stage reads; its age does not matter to a stage that was made from it."""

    def find(wildcards):
        spec = spec_of(stage, wildcards)
        if role not in spec.upstream:
            return []
        manifest = str(STORE.manifest_path(spec.upstream[role]))
        return ancient(manifest) if spec.ref in UP_TO_DATE else manifest

    return find


def lost_artifacts(wildcards):
    """Artifacts that the report no longer needs, but a later run may: requested, so that they are made again."""
    return [str(STORE.manifest_path(ref)) for ref in UP_TO_DATE.lost()]


def evaluations(wildcards):
    return [str(STORE.manifest_path(row.evaluation)) for row in PLAN.rows]


def report_file(name):
    return str(Path(PLAN.config.results) / name)


def asked(rule):
    """What the profile or the command line sets for a rule."""
    overwritten = workflow.resource_settings.overwrite_resources
    return raw(overwritten[rule] if rule in overwritten else {})


def asked_by_default():
    """What the profile or the command line sets for every rule that does not say otherwise."""
    return raw(workflow.resource_settings.default_resources or {})


def raw(resources):
    return {
        name: getattr(resources[name], "raw", resources[name]) for name in resources
    }


def check_resources():
    for name in RULES:
        try:
            required_resources(lambda gpus: PLACEHOLDER_COST, asked(name))
        except SpikedistillError as err:
            raise WorkflowError(f"{name}: {err}") from None


check_resources()


def needs(stage):
    """Resources of the rule of a stage, by its estimate; a retry asks for more memory."""

    @cache
    def need(ref, attempt):
        estimate = partial(
            ESTIMATOR, ref, model=gpu_model({**asked_by_default(), **asked(stage)})
        )
        return required_resources(estimate, asked(stage), attempt)

    def find(name):
        return lambda wildcards, attempt: need(spec_of(stage, wildcards).ref, attempt)[
            name
        ]

    return {name: find(name) for name in NAMES}


def cost_of(spec):
    return stage_cost(ESTIMATOR, spec, asked(spec.stage), asked_by_default())


def what_it_costs():
    return cost_line(PLAN, UP_TO_DATE, cost_of)


def what_is_expected():
    """For the logger: how long each stage should take, and the rule that asks for all."""
    target = workflow.default_target
    return {**expected_steps(PLAN, UP_TO_DATE, cost_of), "target": target}
