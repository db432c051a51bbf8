"""The command line of a stage's job: the same in the rules, in `submit` and by hand. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from spikedistill.plan.build import Plan, PreprocessSpec, Spec


def stage_log(spec: Spec) -> Path:
    """The log of a stage, relative to the working directory."""
    return Path("logs") / spec.stage / f"{Path(spec.ref).name}.log"


def stage_arguments(plan: Plan, spec: Spec) -> list[str]:
    """The arguments of `spikedistill run` for one stage of a plan: its spec, the store, the results, the engine, the raw data."""
    arguments = ["--spec", spec.model_dump_json(), "--store", plan.config.store, "--results", plan.config.results]
    if not isinstance(spec, PreprocessSpec):  # works in processes of its own, without ranks
        arguments += ["--engine", plan.config.engine.model_dump_json()]
    return [*arguments, "--raw", plan.raw[spec.ref]] if spec.ref in plan.raw else arguments


def stage_command(plan: Plan, spec: Spec) -> list[str]:
    """The whole command of a stage's job."""
    return ["spmd", "spikedistill", "run", *stage_arguments(plan, spec), "--log-file", str(stage_log(spec))]
