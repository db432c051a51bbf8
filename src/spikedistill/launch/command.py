"""The command line of a stage's job: the same in the rules, in `submit` and by hand. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from spikedistill.plan.build import Plan
from spikedistill.plan.stages import PreprocessSpec, Spec

RUN = ("spmd", "spikedistill", "run")
"""What runs a stage on every rank of its job; arguments follow."""


def log_of(stage: str, name: str) -> str:
    """Return the log of a stage, relative to the working directory.

    Args:
        stage: its name.
        name: that of its artifact, or Snakemake's wildcard for it.
    """
    return f"logs/{stage}/{name}.log"


def stage_log(spec: Spec) -> Path:
    """Return the log of the stage of a spec, relative to the working directory."""
    return Path(log_of(spec.stage, Path(spec.ref).name))


def stage_arguments(plan: Plan, spec: Spec) -> list[str]:
    """Return the arguments of `spikedistill run` for a stage: spec, store, results, plug-ins, engine, raw data, weights."""
    arguments = ["--spec", spec.model_dump_json(), "--store", plan.config.store, "--results", plan.config.results]
    if plan.config.plugins:
        arguments += ["--plugins", *plan.config.plugins]
    if not isinstance(spec, PreprocessSpec):  # works in processes of its own, without ranks
        arguments += ["--engine", plan.config.engine.model_dump_json()]
    for name, files in (("--raw", plan.raw), ("--weights", plan.weights)):
        arguments += [name, files[spec.ref]] if spec.ref in files else []
    return arguments


def stage_command(plan: Plan, spec: Spec, gpus_per_node: int) -> list[str]:
    """Return the whole command of a stage's job, which requests `gpus_per_node` GPUs."""
    return [*RUN, *stage_arguments(plan, spec), "--gpus", str(gpus_per_node), "--log-file", str(stage_log(spec))]
