"""What each stage asks of the cluster unless the profile or the command line says otherwise. Imports no torch.

The names are Snakemake's standard resources and those of the submitit executor plugin (docs/executor.md). The rules and
`spikedistill submit` ask for the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_submitit.resources import GPUS, Request, parse_resources
from spikedistill.errors import ConfigError
from spikedistill.estimate import Cost, Estimator
from spikedistill.plan import Spec

NAMES = ("runtime", "mem_mb", "nodes", "tasks_per_node", "cpus_per_task", "gpus_per_node", "max_requeues")
RANKS = ("tasks_per_node", "tasks", "tasks_per_gpu")
CPUS = ("cpus_per_task", "cpus_per_gpu")
REPORT_COST = Cost(hours=0.1, gpus=0, cpus=1, gpu_mb=0, host_mb=2000)
ANY_COST = Cost(hours=0.1, gpus=1, cpus=1, gpu_mb=0, host_mb=2000)  # to see whether what is given contradicts itself
RUNTIME_FACTOR = 2.0  # an estimate may be off by so much before the time limit is reached
SHORTEST_MIN = 30
LONGEST_MIN = 1440  # what most sites allow; a longer stage is requeued and goes on from its checkpoint
REQUEUES = 3


def needed(estimate: Callable[[int | None], Cost], given: Mapping[str, Any], attempt: int = 1) -> dict[str, int]:
    """What a stage asks for: GPUs and ranks as the estimate or the profile says, time and memory by the estimate.

    Args:
        estimate: the cost on so many GPUs, or on as many as it takes.
        given: what the profile or the command line sets for this stage; nodes, GPUs, ranks and CPUs of it are kept, under
            whichever of their names.
        attempt: 1, 2, …: each asks for as much memory again.

    Raises:
        ConfigError: if what is given contradicts itself.
    """
    given = _counts(given)
    nodes = given.get("nodes", 1)
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


def stage_cost(estimator: Estimator, spec: Spec, given: Mapping[str, Any]) -> Cost:
    """What a stage will cost on the GPUs that it asks for."""
    return estimator(spec.ref, _given_gpus(_counts(given)))


def _counts(given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given of nodes, GPUs, ranks and CPUs; expressions, which Snakemake evaluates later, count as not given."""
    names = ("nodes", *GPUS, *RANKS, *CPUS)
    counts: dict[str, Any] = {name: count for name in names if (count := _whole(given.get(name))) is not None}
    gres = str(given.get("gres") or "")
    if any(item.split(":")[0].strip() == "gpu" for item in gres.split(",")):
        counts["gres"] = gres
    return counts


def _given_gpus(given: Mapping[str, Any]) -> int | None:
    """GPUs of all nodes together, if any number is given."""
    named = {name: given[name] for name in (*GPUS, "gres") if name in given}
    return _request(named).gpus_per_node * given.get("nodes", 1) if named else None


def _whole(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def _request(resources: Mapping[str, Any]) -> Request:
    try:
        return parse_resources(resources)
    except WorkflowError as err:
        raise ConfigError(str(err)) from err


def find_profile(name: str) -> Path:
    """The YAML file of a Snakemake profile given as Snakemake takes it: a folder, a file, or a name in ~/.config/snakemake.

    Raises:
        ConfigError: if there is none.
    """
    places = [Path(name), Path("~/.config/snakemake").expanduser() / name, Path("/etc/xdg/snakemake") / name]
    candidates = [p for place in places for p in (place / "config.yaml", place / "profile.yaml", place) if p.is_file()]
    if not candidates:
        raise ConfigError(f"no profile {name!r}: looked for a config.yaml in " + ", ".join(map(str, places)))
    return candidates[0]


def read_profile(name: str) -> dict[str, Any]:
    """The settings of a Snakemake profile.

    Raises:
        ConfigError: if there is none, or it is not a YAML mapping.
    """
    file = find_profile(name)
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, OSError) as err:
        raise ConfigError(f"{file}: cannot be read as YAML: {err}") from err
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: expected a mapping at the top level, found {type(values).__name__}")
    return values


def site_profile(name: str | None) -> dict[str, Any]:
    """The settings of the profile that is named; without a name, those of `cluster` if it is there.

    Raises:
        ConfigError: as `read_profile` does.
    """
    if not name and not Path("cluster").is_dir():
        return {}
    return read_profile(name or "cluster")


def site_resources(stage: str, profile: Mapping[str, Any]) -> dict[str, Any]:
    """What a profile sets for a stage: its `set-resources`, over its `default-resources`."""
    return _pairs(profile.get("default-resources"), "default-resources") | set_resources(stage, profile)


def stage_resources(
    stage: str, profile: Mapping[str, Any], overrides: Mapping[str, Any], estimate: Callable[[int | None], Cost]
) -> dict[str, Any]:
    """The resources of a stage, as Snakemake would resolve them for its rule.

    Later wins: the profile's `default-resources`, what the stage needs, the profile's `set-resources`, `overrides`.
    """
    given = set_resources(stage, profile) | dict(overrides)
    return _pairs(profile.get("default-resources"), "default-resources") | needed(estimate, given) | given


def set_resources(stage: str, profile: Mapping[str, Any]) -> dict[str, Any]:
    """The `set-resources` of a profile for a stage."""
    per_rule = profile.get("set-resources") or {}
    if isinstance(per_rule, list):
        per_rule = _nested(per_rule)
    return _pairs(per_rule.get(stage), f"set-resources.{stage}")


def _pairs(values: Any, key: str) -> dict[str, Any]:
    if isinstance(values, list):
        return parse_pairs(values, key)
    if values is None or isinstance(values, Mapping):
        return dict(values or {})
    raise ConfigError(f"profile: {key}: expected a mapping or a list of key=value, found {values!r}")


def _nested(entries: list[str]) -> dict[str, dict[str, Any]]:
    nested: dict[str, dict[str, Any]] = {}
    for key, value in parse_pairs(entries, "set-resources").items():
        rule, _, resource = key.partition(":")
        nested.setdefault(rule, {})[resource] = value
    return nested


def parse_pairs(pairs: list[str], what: str) -> dict[str, Any]:
    """Parse `key=value` strings with YAML values.

    Raises:
        ConfigError: if one has no `=`.
    """
    parsed = {}
    for pair in pairs:
        key, separator, value = str(pair).partition("=")
        if not separator or not key:
            raise ConfigError(f"{what}: expected key=value, found {pair!r}")
        parsed[key.strip()] = yaml.safe_load(value)
    return parsed
