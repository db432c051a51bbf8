"""Snakemake resources -> what a job asks for, in one table. Names are those of snakemake-executor-plugin-slurm."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError

DEFAULT_RUNTIME_MIN = 60
SIGNAL_DELAY_S = 90

# resource -> sbatch option, given as --option=value
SBATCH_OPTIONS = {
    "slurm_partition": "partition",
    "slurm_account": "account",
    "qos": "qos",
    "constraint": "constraint",
    "reservation": "reservation",
    "gres": "gres",
    "nodelist": "nodelist",
    "exclude": "exclude",
    "licenses": "licenses",
    "clusters": "clusters",
    "mail_type": "mail-type",
    "mail_user": "mail-user",
    "dependency": "dependency",
    "mem_mb_per_cpu": "mem-per-cpu",
}
COUNTS = ("runtime", "mem_mb", "mem_mb_per_cpu", "nodes", "tasks_per_node", "tasks", "cpus_per_task", "max_requeues")


@dataclass(frozen=True)
class Request:
    """What one job asks for.

    Attributes:
        nodes: number of nodes.
        tasks_per_node: ranks on each node.
        cpus_per_task: CPUs of a rank.
        gpus_per_node: GPUs on each node.
        gpu_model: model of GPU, None: any.
        mem_mb: memory per node in MB, None: the site's default.
        runtime_min: time limit in minutes.
        max_requeues: how often a job that reached its time limit goes back into the queue.
        sbatch: further options by sbatch's names.
        extra: further arguments for sbatch, as given.
    """

    nodes: int = 1
    tasks_per_node: int = 1
    cpus_per_task: int = 1
    gpus_per_node: int = 0
    gpu_model: str | None = None
    mem_mb: int | None = None
    runtime_min: int = DEFAULT_RUNTIME_MIN
    max_requeues: int = 3
    sbatch: dict[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ()

    @property
    def num_tasks(self) -> int:
        """Ranks of the job."""
        return self.nodes * self.tasks_per_node


def parse_resources(resources: Mapping[str, Any], threads: int = 1) -> Request:
    """Read the resources of a job; names that mean nothing here are left to Snakemake.

    Args:
        resources: by Snakemake's names.
        threads: the rule's threads, used where `cpus_per_task` is not given.

    Raises:
        WorkflowError: naming the resource, what was found and what is allowed.
    """
    counts = {name: _count(name, resources[name]) for name in COUNTS if resources.get(name) is not None}
    tasks_per_node = _tasks_per_node(counts)
    return Request(
        nodes=counts.get("nodes", 1),
        tasks_per_node=tasks_per_node,
        cpus_per_task=counts.get("cpus_per_task", threads),
        gpus_per_node=_gpus(resources),
        gpu_model=_text(resources, "gpu_model"),
        mem_mb=None if "mem_mb_per_cpu" in counts else counts.get("mem_mb"),
        runtime_min=counts.get("runtime", DEFAULT_RUNTIME_MIN),
        max_requeues=_count("max_requeues", resources.get("max_requeues", 3), least=0),
        sbatch={option: value for name, option in SBATCH_OPTIONS.items() if (value := _text(resources, name))},
        extra=tuple(_split_extra(resources)),
    )


def _count(name: str, value: Any, least: int = 1) -> int:
    try:
        count = int(value)
    except (TypeError, ValueError):
        count = None
    if count is None or isinstance(value, bool) or count < least or count != float(value):
        unit = " in minutes" if name == "runtime" else " in MB" if name.startswith("mem") else ""
        raise WorkflowError(f"resource {name}={value!r}: expected a whole number{unit}, at least {least}")
    return count


def _tasks_per_node(counts: Mapping[str, int]) -> int:
    nodes = counts.get("nodes", 1)
    if "tasks_per_node" in counts:
        return counts["tasks_per_node"]
    tasks = counts.get("tasks", nodes)
    if tasks % nodes:
        raise WorkflowError(f"resource tasks={tasks}: cannot be shared equally by nodes={nodes}")
    return tasks // nodes


def _gpus(resources: Mapping[str, Any]) -> int:
    for name in ("gpus_per_node", "gpu", "gpus"):
        if resources.get(name) is not None:
            return _count(name, resources[name], least=0)
    return 0


def _text(resources: Mapping[str, Any], name: str) -> str | None:
    value = resources.get(name)
    if value is None or value == "":
        return None
    if "\n" in str(value):
        raise WorkflowError(f"resource {name}={value!r}: expected one line")
    return str(value)


def _split_extra(resources: Mapping[str, Any]) -> list[str]:
    text = _text(resources, "slurm_extra")
    try:
        return shlex.split(text) if text else []
    except ValueError as err:
        raise WorkflowError(f"resource slurm_extra={text!r}: {err}") from err


def slurm_parameters(request: Request, *, name: str, comment: str) -> dict[str, Any]:
    """Parameters of submitit's Slurm executor.

    Args:
        request: what the job asks for.
        name: shown by squeue.
        comment: shown by sacct.
    """
    options: dict[str, Any] = dict(request.sbatch)
    if request.gpus_per_node:
        options["gpus-per-node"] = ":".join(filter(None, [request.gpu_model, str(request.gpus_per_node)]))
    options |= _extra_options(request.extra)
    if "no-requeue" not in options:
        options["requeue"] = True  # after preemption, or when a node fails; also where the site's default is not to
    parameters: dict[str, Any] = {
        "job_name": name,
        "comment": comment,
        "time": request.runtime_min,
        "nodes": request.nodes,
        "ntasks_per_node": request.tasks_per_node,
        "cpus_per_task": request.cpus_per_task,
        "signal_delay_s": min(SIGNAL_DELAY_S, 25 * request.runtime_min),
        "stderr_to_stdout": True,
        "wckey": "",
        # since Slurm 22.05 srun does not inherit the CPUs of a task; a lost rank must end its peers
        "srun_args": [f"--cpus-per-task={request.cpus_per_task}", "--kill-on-bad-exit=1"],
        "additional_parameters": options,
    }
    if request.mem_mb is not None:
        parameters["mem"] = f"{request.mem_mb}MB"
    return parameters


def _extra_options(arguments: tuple[str, ...]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for argument in arguments:
        if not argument.startswith("--"):
            raise WorkflowError(f"resource slurm_extra: write options as --name=value or --name; found {argument!r}")
        name, separator, value = argument[2:].partition("=")
        options[name] = value if separator else True
    return options
