"""`spikedistill submit`: submit single stages through submitit, without Snakemake. Imports no torch."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spikedistill.components import unknown
from spikedistill.errors import ArtifactError, ConfigError
from spikedistill.launch.command import stage_command, stage_log
from spikedistill.launch.profile import site_profile, site_resources
from spikedistill.launch.resources import gpu_model, stage_resources
from spikedistill.plan.build import Plan
from spikedistill.plan.estimate import Estimator
from spikedistill.plan.stages import Spec
from spikedistill.plan.uptodate import UpToDate
from spikedistill.store.artifacts import Store

FOLDER = Path(".snakemake") / "submitit"


def submit_stage(
    plan: Plan,
    name: str,
    *,
    profile: str | None,
    cluster: str | None,
    overrides: Mapping[str, Any],
    with_upstream: bool,
    wait: bool,
) -> int:
    """Submit one stage of a plan and print where it runs; return the exit status.

    Args:
        plan: the plan.
        name: the stage's artifact.
        profile: Snakemake profile whose resources and site settings to use; None: `cluster` if there is one.
        cluster: "slurm" or "local"; None: as the profile says, else "slurm".
        overrides: resources of this stage that override the profile's; upstream stages keep the profile's.
        with_upstream: submit missing upstream stages too; on Slurm each waits for those before it.
        wait: wait for the end (always so on "local").

    Raises:
        ArtifactError: if an upstream artifact is missing, unless `with_upstream`.
        ConfigError: if the stage, the profile or a resource is not valid, or Slurm refuses the job.
    """
    _check_names(overrides)
    store = Store(plan.config.store)
    store.check()
    spec = plan.find(name)
    settings = site_profile(profile)
    where = cluster or settings.get("submitit-cluster", "slurm")
    up_to_date = UpToDate(plan, store)
    todo = [s for s in plan.with_upstream(spec) if s.ref not in up_to_date]
    if not todo:
        print(f"{spec.ref} is there already: {store.path(spec.ref)}")
        return 0
    missing = [s for s in todo if s is not spec]
    if missing and not with_upstream:
        names = "".join(f"\n  {s.stage:12}{Path(s.ref).name}" for s in missing)
        raise ArtifactError(
            f"{Path(spec.ref).name} needs artifacts that are not there yet:{names}\n"
            "Submit them first, or all at once with --with-upstream."
        )
    return _submit_all(plan, todo, where, settings, overrides, wait=wait or where == "local")


def _check_names(overrides: Mapping[str, Any]) -> None:
    from snakemake_executor_plugin_submitit.request.resources import NAMES, NAMES_OF_SNAKEMAKE

    for name in overrides:
        if name not in NAMES | NAMES_OF_SNAKEMAKE:
            raise ConfigError(f"--set: {unknown('resource', name, NAMES)}")


def _submit_all(
    plan: Plan, specs: list[Spec], cluster: str, settings: dict[str, Any], overrides: Mapping[str, Any], *, wait: bool
) -> int:
    from snakemake.exceptions import WorkflowError

    from snakemake_executor_plugin_submitit.request.partitions import choose_partition, read_partitions
    from snakemake_executor_plugin_submitit.request.resources import parse_resources
    from snakemake_executor_plugin_submitit.submission.submit import submit

    jobs: dict[str, Any] = {}
    estimator = Estimator(plan)
    for spec in specs:
        given = overrides if spec is specs[-1] else {}
        estimate = functools.partial(estimator, spec.ref, model=gpu_model({**site_resources(spec.stage, settings), **given}))
        resources = stage_resources(spec.stage, settings, given, estimate)
        before = [jobs[ref].job_id for ref in spec.upstream.values() if ref in jobs]
        if before and cluster == "slurm":
            resources["dependency"] = ",".join(filter(None, [resources.get("dependency"), f"afterok:{':'.join(before)}"]))
            resources["slurm_extra"] = f"{resources.get('slurm_extra', '')} --kill-on-invalid-dep=yes".strip()
        try:
            request = parse_resources(resources)
            if cluster == "slurm" and (limits := settings.get("submitit-partitions")):
                request = choose_partition(request, read_partitions(Path(limits)), Path(limits))
            command = stage_command(plan, spec, request.gpus_per_node)
            job = submit(command, cluster=cluster, folder=FOLDER, name=Path(spec.ref).name, resources=request)
        except WorkflowError as err:
            raise ConfigError(f"{spec.stage} {Path(spec.ref).name} was not submitted: {err}") from err
        jobs[spec.ref] = job
        print(f"{spec.stage:12}{Path(spec.ref).name}\n{'':12}job {job.job_id}, log {stage_log(spec)}", flush=True)
        if cluster == "local" and not _finish(spec, job):
            return 1
    if wait and cluster != "local":
        return 0 if all(_finish(spec, jobs[spec.ref]) for spec in specs) else 1
    return 0


def _finish(spec: Spec, job: Any) -> bool:
    try:
        status = job.wait()
    except KeyboardInterrupt:
        job.cancel()
        raise
    if status == 0:
        print(f"{'':12}done", flush=True)
        return True
    print(f"{'':12}FAILED: {spec.stage} {Path(spec.ref).name}, job {job.job_id}, {job.state()}, log {job.log_path}")
    return False
