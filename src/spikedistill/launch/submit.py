"""`spikedistill submit`: submit stages through submitit, without Snakemake. Imports no torch."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spikedistill.components import unknown
from spikedistill.errors import ArtifactError, ConfigError
from spikedistill.launch.command import stage_command, stage_log
from spikedistill.launch.jobs.find import SUBMITIT
from spikedistill.launch.profile import site_profile, site_resources
from spikedistill.launch.resources import gpu_model, stage_resources
from spikedistill.plan.build import Plan
from spikedistill.plan.estimate import Estimator
from spikedistill.plan.stages import Spec
from spikedistill.plan.uptodate import UpToDate
from spikedistill.store.artifacts import Store


def submit_stages(
    plan: Plan,
    names: Sequence[str],
    *,
    profile: str | None,
    cluster: str | None,
    overrides: Mapping[str, Any],
    with_upstream: bool,
    wait: bool,
    dry_run: bool = False,
) -> int:
    """Submit some stages of a plan and print where they run; return the exit status.

    Args:
        plan: the plan.
        names: their artifacts, or patterns, see `Plan.select`.
        profile: Snakemake profile whose resources and site settings to use; None: `cluster` if there is one.
        cluster: "slurm" or "local"; None: as the profile says, else "slurm".
        overrides: resources of these stages that override the profile's; upstream stages keep the profile's.
        with_upstream: submit missing upstream stages too; on Slurm each waits for those before it.
        wait: wait for the end (always so on "local").
        dry_run: submit nothing and print the command of each job and, for Slurm, its batch script.

    Raises:
        ArtifactError: if an upstream artifact is missing, unless `with_upstream`.
        ConfigError: if the stage, the profile or a resource is not valid, or Slurm refuses the job.
    """
    _check_names(overrides)
    store = Store(plan.config.store)
    store.check()
    chosen = plan.select(names)
    settings = site_profile(profile)
    where = cluster or settings.get("submitit-cluster", "slurm")
    todo = _todo(plan, chosen, store, with_upstream)
    if not todo:
        return 0
    jobs = _requests(plan, todo, where, settings, {spec.ref: overrides for spec in chosen})
    if dry_run:
        return _show_all(jobs, where)
    return _submit_all(jobs, where, wait=wait or where == "local")


def _todo(plan: Plan, chosen: Sequence[Spec], store: Store, with_upstream: bool) -> list[Spec]:
    """Return the stages to submit, upstream first; tell about the chosen ones that are done."""
    up_to_date = UpToDate(plan, store)
    needed = {each.ref: each for spec in chosen for each in plan.with_upstream(spec)}
    todo = [spec for ref, spec in needed.items() if ref not in up_to_date]
    for spec in chosen:
        if spec.ref in up_to_date:
            print(f"{spec.ref} is there already: {store.path(spec.ref)}")
    missing = [spec for spec in todo if spec not in chosen]
    if missing and not with_upstream:
        names = "".join(f"\n  {spec.stage:12}{Path(spec.ref).name}" for spec in missing)
        wanted = ", ".join(Path(spec.ref).name for spec in chosen if spec.ref not in up_to_date)
        raise ArtifactError(
            f"{wanted} needs artifacts that are not there yet:{names}\nSubmit them first, or all at once with --with-upstream."
        )
    return todo


def _check_names(overrides: Mapping[str, Any]) -> None:
    from snakemake_executor_plugin_submitit.request.resources import NAMES, NAMES_OF_SNAKEMAKE

    for name in overrides:
        if name not in NAMES | NAMES_OF_SNAKEMAKE:
            raise ConfigError(f"--set: {unknown('resource', name, NAMES)}")


@dataclass(frozen=True)
class _Job:
    """The job of a stage, before it is submitted.

    Attributes:
        spec: the stage.
        command: its command line.
        request: its resources, a `Request` of the executor plugin.
        after: references of the stages whose jobs it waits for on Slurm.
    """

    spec: Spec
    command: list[str]
    request: Any
    after: list[str]

    @property
    def name(self) -> str:
        return Path(self.spec.ref).name


def _requests(
    plan: Plan, specs: list[Spec], cluster: str, settings: dict[str, Any], overrides: Mapping[str, Mapping[str, Any]]
) -> list[_Job]:
    """Return the jobs of some stages, upstream first; `overrides` are resources of some of them, by reference."""
    from snakemake.exceptions import WorkflowError

    from snakemake_executor_plugin_submitit.request.partitions import choose_partition, read_partitions
    from snakemake_executor_plugin_submitit.request.resources import parse_resources

    jobs: list[_Job] = []
    estimator = Estimator(plan)
    refs = {spec.ref for spec in specs}
    for spec in specs:
        given = overrides.get(spec.ref, {})
        estimate = functools.partial(estimator, spec.ref, model=gpu_model({**site_resources(spec.stage, settings), **given}))
        try:
            request = parse_resources(stage_resources(spec.stage, settings, given, estimate))
            if cluster == "slurm" and (limits := settings.get("submitit-partitions")):
                request = choose_partition(request, read_partitions(Path(limits)), Path(limits))
        except WorkflowError as err:
            raise ConfigError(f"{spec.stage} {Path(spec.ref).name} was not submitted: {err}") from err
        after = [ref for ref in spec.upstream.values() if ref in refs] if cluster == "slurm" else []
        jobs.append(_Job(spec, stage_command(plan, spec, request.gpus_per_node), request, after))
    return jobs


def _waiting(job: _Job, ids: Mapping[str, str]) -> Any:
    """Return the request of a job that starts after those that it waits for have succeeded, given the ids of their jobs."""
    if not job.after:
        return job.request
    condition = f"afterok:{':'.join(ids[ref] for ref in job.after)}"
    given = job.request.sbatch.get("dependency")
    sbatch = {**job.request.sbatch, "dependency": ",".join(filter(None, [given, condition]))}
    return replace(job.request, sbatch=sbatch, extra=(*job.request.extra, "--kill-on-invalid-dep=yes"))


def _show_all(jobs: Sequence[_Job], cluster: str) -> int:
    """Print what would be submitted."""
    from snakemake.exceptions import WorkflowError

    from snakemake_executor_plugin_submitit.submission.slurm_executor import slurm_executor

    for job in jobs:
        print(f"{job.spec.stage:12}{job.name}\n\ncommand:\n{shlex.join(job.command)}\n")
        if cluster != "slurm":
            continue
        request = _waiting(job, {ref: f"<job of {Path(ref).name}>" for ref in job.after})
        try:
            executor = slurm_executor(SUBMITIT.absolute() / job.name / "<time>", request, name=job.name, warn=print)
        except WorkflowError as err:
            raise ConfigError(f"{job.spec.stage} {job.name} could not be submitted: {err}") from err
        print(f"batch script:\n{executor.script}")
    return 0


def _submit_all(todo: Sequence[_Job], cluster: str, *, wait: bool) -> int:
    from snakemake.exceptions import WorkflowError

    from snakemake_executor_plugin_submitit.submission.submit import submit

    jobs: dict[str, Any] = {}
    for each in todo:
        request = _waiting(each, {ref: jobs[ref].job_id for ref in each.after})
        try:
            job = submit(each.command, cluster=cluster, folder=SUBMITIT, name=each.name, resources=request)
        except WorkflowError as err:
            raise ConfigError(f"{each.spec.stage} {each.name} was not submitted: {err}") from err
        jobs[each.spec.ref] = job
        print(f"{each.spec.stage:12}{each.name}\n{'':12}job {job.job_id}, log {stage_log(each.spec)}", flush=True)
        if cluster == "local" and not _finish(each.spec, job):
            return 1
    if wait and cluster != "local":
        return 0 if all(_finish(each.spec, jobs[each.spec.ref]) for each in todo) else 1
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
