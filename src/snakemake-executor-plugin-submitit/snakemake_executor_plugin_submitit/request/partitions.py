"""Choose a partition by what a job requests, from a file of limits that a site or a user writes.

The file is that of snakemake-executor-plugin-slurm's `--slurm-partition-config`, so that one file serves both::

    partitions:
      short: {max_runtime: "4h", max_mem_mb: 64000, max_cpus_per_task: 16}
      gpu: {max_runtime: "2-00:00:00", max_nodes: 4, max_gpus: 8, available_gpu_models: [a100, h100]}
"""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_submitit.request.resources import Request

# key of the file -> the amount that it limits
LIMITS = {
    "max_runtime": "runtime",
    "max_mem_mb": "mem_mb",
    "max_mem_mb_per_cpu": "mem_mb_per_cpu",
    "max_cpus_per_task": "cpus_per_task",
    "max_threads": "cpus_per_task",
    "max_cpus_per_gpu": "cpus_per_gpu",
    "max_nodes": "nodes",
    "max_tasks": "tasks",
    "max_mpi_tasks": "tasks",
    "max_tasks_per_node": "tasks_per_node",
    "max_gpus": "gpus_per_node",
    "max_gpu": "gpus_per_node",
}
LISTS = ("available_gpu_models", "available_constraints")
CLUSTERS = ("cluster", "clusters", "slurm_cluster")
UNLIMITED = ("infinite", "unlimited", "inf", ".inf")
MINUTES = {"s": 1 / 60, "m": 1, "h": 60, "d": 24 * 60, "w": 7 * 24 * 60}


@dataclass(frozen=True)
class Partition:
    """One partition of the file.

    Attributes:
        name: its name in Slurm.
        limits: largest value of each limited amount; there are no GPUs unless there is a limit for them.
        gpu_models: models of its GPUs; empty: any.
        constraints: features of its nodes; empty: any.
        cluster: its cluster; None: the cluster of this run.
        many_tasks: True if a job may have more than one task.
    """

    name: str
    limits: Mapping[str, float]
    gpu_models: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    cluster: str | None = None
    many_tasks: bool = True

    def violations(self, request: Request) -> list[str]:
        """Return the reasons why a job cannot run here; empty if it can."""
        requested = _requested(request)
        reasons = [
            f"{name} {_show(requested[name])} is more than {_show(limit)}"
            for name, limit in self.limits.items()
            if requested[name] > limit
        ]
        if self.gpu_models and request.gpu_model and request.gpu_model not in self.gpu_models:
            reasons.append(f"no GPU of model {request.gpu_model}")
        features = [word for word in re.split(r"[&,|]", str(request.sbatch.get("constraint", ""))) if word]
        if self.constraints and not set(features) <= set(self.constraints):
            reasons.append(f"constraint {request.sbatch['constraint']} is not met")
        if self.cluster not in (None, os.environ.get("SLURM_CLUSTERS")):
            reasons.append(f"it is on cluster {self.cluster}, and SLURM_CLUSTERS does not say so")
        if request.num_tasks > 1 and not self.many_tasks:
            reasons.append("one task only")
        return reasons

    def fit_score(self, request: Request) -> tuple[bool, float]:
        """Return a sort key for partitions that fit: highest without idle GPUs, then where the limits are used most fully."""
        requested = _requested(request)
        used = sum(requested[name] / limit for name, limit in self.limits.items() if 0 < limit < math.inf)
        wastes_gpus = bool(self.limits["gpus_per_node"]) and not request.gpus_per_node
        return not wastes_gpus, used


def choose_partition(request: Request, partitions: list[Partition], source: Path) -> Request:
    """Return the request with the best fitting partition, the first of equals; unchanged if it already names one.

    Args:
        request: the request of a job.
        partitions: the partitions of the file.
        source: the file, named in the error message.

    Raises:
        WorkflowError: if none fits, with the reasons for each.
    """
    if "partition" in request.sbatch:
        return request
    fitting = [partition for partition in partitions if not partition.violations(request)]
    if not fitting:
        reasons = "".join(f"\n  {each.name}: {'; '.join(each.violations(request))}" for each in partitions)
        raise WorkflowError(f"no partition of {source} takes this job; request less, or set slurm_partition:{reasons}")
    best = max(fitting, key=lambda partition: partition.fit_score(request))
    return replace(request, sbatch=request.sbatch | {"partition": best.name})


def read_partitions(path: Path) -> list[Partition]:
    """Read the file of partitions.

    Raises:
        WorkflowError: naming the file, the partition, the key, and the expected value.
    """
    import yaml

    try:
        # keep every scalar as text: YAML would read 24:00:00 as a number in base 60
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except OSError as err:
        raise WorkflowError(f"{path}: the file of partitions cannot be read: {err.strerror}") from err
    except (yaml.YAMLError, UnicodeDecodeError) as err:
        raise WorkflowError(f"{path}: this is not YAML: {err}") from err
    listed = content.get("partitions") if isinstance(content, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise WorkflowError(f"{path}: expected `partitions:` with a mapping from names to limits")
    return [_read_partition(f"{path}: partition {name}", name, entry or {}) for name, entry in listed.items()]


def _read_partition(where: str, name: str, entry: Any) -> Partition:
    if not isinstance(entry, dict):
        raise WorkflowError(f"{where}: expected a mapping from limits to values, found {entry!r}")
    known = [*LIMITS, *LISTS, "supports_mpi", *CLUSTERS]
    if unknown := [key for key in entry if key not in known]:
        raise WorkflowError(f"{where}: {unknown[0]} is not known; known are {', '.join(known)}")
    limits: dict[str, float] = {}
    for key, limited in LIMITS.items():
        if key in entry:
            limit = _read_limit(f"{where}: {key}", entry[key], is_time=limited == "runtime")
            limits[limited] = min(limit, limits.get(limited, math.inf))
    return Partition(
        name=name,
        limits={"gpus_per_node": 0} | limits,
        gpu_models=_read_list(f"{where}: {LISTS[0]}", entry.get(LISTS[0], [])),
        constraints=_read_list(f"{where}: {LISTS[1]}", entry.get(LISTS[1], [])),
        cluster=next((entry[key] for key in CLUSTERS if key in entry), None),
        many_tasks=str(entry.get("supports_mpi", "true")).lower() not in ("false", "no"),
    )


def _read_limit(where: str, text: Any, *, is_time: bool) -> float:
    if isinstance(text, str) and text.lower() in UNLIMITED:
        return math.inf
    try:
        limit = read_minutes(text) if is_time else float(text)
    except (TypeError, ValueError):
        limit = -1
    if not limit >= 0:
        wanted = "minutes, or a time like 90m, 1.5h, 2d, 12:00:00 or 2-12:00:00" if is_time else "a number"
        raise WorkflowError(f"{where}={text!r}: expected {wanted}")
    return limit


def read_minutes(text: str) -> float:
    """Convert a time in Slurm's notation (90, 90:00, 1:30:00, 1-12, 1-12:00:00) or Snakemake's (90m, 1.5h, 1d 12h) to minutes.

    Raises:
        ValueError: if it is neither.
    """
    text = str(text).strip().lower()
    if re.fullmatch(r"(\d+(\.\d+)?\s*[smhdw]\s*)+", text):
        return sum(float(number) * MINUTES[unit] for number, unit in re.findall(r"([\d.]+)\s*([smhdw])", text))
    days, dash, clock = text.rpartition("-")
    parts = [float(part) for part in clock.split(":")]
    if len(parts) > 3:
        raise ValueError(text)
    if dash or len(parts) == 3:  # D-H[:M[:S]] or H:M:S
        hours, minutes, seconds = [*parts, 0.0, 0.0][:3]
    else:  # M[:S]
        hours, (minutes, seconds) = 0.0, [*parts, 0.0][:2]
    return float(days or 0) * MINUTES["d"] + hours * 60 + minutes + seconds / 60


def _read_list(where: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(",") if word.strip())
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise WorkflowError(f"{where}: expected a list of names, found {value!r}")
    return tuple(value)


def _requested(request: Request) -> dict[str, float]:
    cpus_per_node = request.cpus_per_task * request.tasks_per_node
    return {
        "runtime": request.runtime_min,
        "mem_mb": request.mem_mb or 0,
        "mem_mb_per_cpu": float(request.sbatch.get("mem-per-cpu", 0)),
        "cpus_per_task": request.cpus_per_task,
        "cpus_per_gpu": cpus_per_node / request.gpus_per_node if request.gpus_per_node else 0,
        "nodes": request.nodes,
        "tasks": request.num_tasks,
        "tasks_per_node": request.tasks_per_node,
        "gpus_per_node": request.gpus_per_node,
    }


def _show(number: float) -> str:
    return f"{number:g}" if number < 1e6 else f"{number:.0f}"
