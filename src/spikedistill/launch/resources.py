"""The resources that each stage requests unless the profile or the command line says otherwise. Imports no torch.

The names are Snakemake's standard resources and those of the submitit executor plugin (docs/executor.md). The rules and
`spikedistill submit` request the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_submitit.request.resources import GPUS, Request, parse_resources
from spikedistill.errors import ConfigError
from spikedistill.launch.profile import default_resources, set_resources
from spikedistill.plan.build import Plan
from spikedistill.plan.estimate import Cost, Estimator
from spikedistill.plan.stages import Spec

NAMES = ("runtime", "mem_mb", "nodes", "tasks_per_node", "cpus_per_task", "gpus_per_node", "max_requeues")
RANKS = ("tasks_per_node", "tasks", "tasks_per_gpu")
CPUS = ("cpus_per_task", "cpus_per_gpu")
REPORT_COST = Cost(hours=0.1, gpus=0, cpus=1, gpu_mb=0, host_mb=2000)
PLACEHOLDER_COST = Cost(
    hours=0.1, gpus=1, cpus=1, gpu_mb=0, host_mb=2000
)  # placeholder cost for checking user-set resources for contradictions
RUNTIME_FACTOR = 2.0  # an estimate may be off by this factor before the time limit is reached
SHORTEST_MIN = 30
LONGEST_MIN = 1440  # what most sites allow; a longer stage is requeued and goes on from its checkpoint
REQUEUES = 3


def required_resources(estimate: Callable[[int | None], Cost], given: Mapping[str, Any], attempt: int = 1) -> dict[str, int]:
    """Return the resources of a stage: GPUs and ranks by the estimate or the profile, time and memory by the estimate.

    Args:
        estimate: the cost on a number of GPUs; None: on as many as it takes.
        given: what the profile or the command line sets for this stage; nodes, GPUs, ranks and CPUs of it are kept, under
            whichever of their names.
        attempt: attempt number, from 1; requested memory grows linearly with it.

    Raises:
        ConfigError: if what is given contradicts itself.
    """
    given = _counts(given)
    nodes = given.get("nodes", 1)
    if nodes < 1:
        raise ConfigError(f"resource nodes={nodes}: expected 1 or more")
    cost = estimate(_given_gpus(given))
    gpus_per_node = math.ceil(cost.gpus / nodes)
    shape = {name: given[name] for name in (*RANKS, *CPUS) if name in given}
    if not shape.keys() & RANKS:
        shape["tasks_per_node"] = max(1, gpus_per_node)
    if not shape.keys() & CPUS:
        shape["cpus_per_task"] = cost.cpus
    request = _request({**shape, "nodes": nodes, "gpus_per_node": gpus_per_node})
    minutes = max(SHORTEST_MIN, math.ceil(RUNTIME_FACTOR * 60 * cost.hours))
    return {
        "runtime": min(minutes, LONGEST_MIN),
        "mem_mb": cost.host_mb * request.tasks_per_node * attempt,
        "nodes": nodes,
        "tasks_per_node": request.tasks_per_node,
        "cpus_per_task": request.cpus_per_task,
        "gpus_per_node": 0 if "gres" in given else gpus_per_node,  # GPUs are asked for in one way only
        "max_requeues": REQUEUES + minutes // LONGEST_MIN,
    }


def stage_cost(estimator: Estimator, spec: Spec, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> Cost:
    """Return the cost of a stage on the GPUs that it requests.

    Args:
        estimator: of the plan.
        spec: the stage.
        given: what the profile or the command line sets for it.
        defaults: what the profile sets for every stage, of which only the model of GPU matters here.
    """
    return estimator(spec.ref, _given_gpus(_counts(given)), model=gpu_model({**defaults, **given}))


def costs_on(plan: Plan, profile: Mapping[str, Any]) -> Callable[[Spec], Cost]:
    """Return what estimates the cost of a plan's stages on the resources that they request under a profile."""
    estimator = Estimator(plan)

    def cost_of(spec: Spec) -> Cost:
        return stage_cost(estimator, spec, set_resources(spec.stage, profile), default_resources(profile))

    return cost_of


def gpu_model(resources: Mapping[str, Any]) -> str | None:
    """Return the model of GPU that a job with these resources requests, in `gpu_model` or `gres`; None: any."""
    return _request({name: resources[name] for name in ("gpu_model", "gres") if resources.get(name)}).gpu_model


def gpus_per_node(resources: Mapping[str, Any]) -> int:
    """Return the GPUs per node that a job with these resources requests, by whichever of their names."""
    return _request({name: resources[name] for name in (*GPUS, "gres") if resources.get(name)}).gpus_per_node


def _counts(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given numbers of nodes, GPUs, ranks and CPUs; expressions, which Snakemake evaluates later, do not count."""
    names = ("nodes", *GPUS, *RANKS, *CPUS)
    counts: dict[str, Any] = {name: count for name in names if (count := _whole(given.get(name))) is not None}
    gres = str(given.get("gres") or "")
    if any(item.split(":")[0].strip() == "gpu" for item in gres.split(",")):
        counts["gres"] = gres
    return counts


def _given_gpus(given: Mapping[str, Any]) -> int | None:
    """Return the number of GPUs of all nodes together, if one is given."""
    named = {name: given[name] for name in (*GPUS, "gres") if name in given}
    return _request(named).gpus_per_node * given.get("nodes", 1) if named else None


def _whole(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _request(resources: Mapping[str, Any]) -> Request:
    try:
        return parse_resources(resources)
    except WorkflowError as err:
        raise ConfigError(str(err)) from err


def stage_resources(
    stage: str, profile: Mapping[str, Any], overrides: Mapping[str, Any], estimate: Callable[[int | None], Cost]
) -> dict[str, Any]:
    """Return the resources of a stage, as Snakemake would resolve them for its rule.

    Later wins: the profile's `default-resources`, what the stage needs, the profile's `set-resources`, `overrides`.
    """
    given = set_resources(stage, profile) | dict(overrides)
    return default_resources(profile) | required_resources(estimate, given) | given
