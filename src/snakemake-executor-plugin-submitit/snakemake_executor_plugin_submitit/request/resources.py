"""Translate Snakemake resources, named as in snakemake-executor-plugin-slurm, into the request of a job."""

import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError

DEFAULT_RUNTIME_MIN = 60
SIGNAL_DELAY_S = 90
"""Before the time limit; less for short jobs."""
REQUEUE_S = 30  # of these, to requeue the job
LEAST_TIME_TO_SAVE_S = 5.0

# resource -> sbatch option, given as --option=value; of several names for one option, the first that is set counts
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
    "cluster": "clusters",
    "slurm_cluster": "clusters",
    "mail_type": "mail-type",
    "mail_user": "mail-user",
    "dependency": "dependency",
    "mem_mb_per_cpu": "mem-per-cpu",
}
# variables of sbatch that say who the user is and where the jobs belong: defaults for options that a job does not set. All other
# variables of sbatch are ignored, because Slurm lets them override what a job requests
USER_DEFAULTS = {
    "SBATCH_ACCOUNT": "account",
    "SBATCH_PARTITION": "partition",
    "SBATCH_QOS": "qos",
    "SBATCH_RESERVATION": "reservation",
}
MEMORY = ("mem_mb", "mem_mb_per_cpu", "mem_mb_per_gpu")
COUNTS = ("runtime", "nodes", "tasks", "tasks_per_node", "tasks_per_gpu", "cpus_per_task", "cpus_per_gpu", *MEMORY)
# resource -> (sbatch option if true, option if false)
SWITCHES: dict[str, tuple[str, str | None]] = {"exclusive": ("exclusive", None), "requeue": ("requeue", "no-requeue")}
BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
EXCLUSIVE_WORDS = ("user", "mcs", "topo")
GPUS = ("gpus_per_node", "gpu", "gpus")
NAMES = frozenset(
    {*SBATCH_OPTIONS, *COUNTS, *SWITCHES, *GPUS, "gpu_model", "max_requeues", "mpi", "pool", "slurm_extra", "stage_in"}
)
NAMES_OF_SNAKEMAKE = frozenset({"mem", "mem_mib", "disk", "disk_mb", "disk_mib", "tmpdir"})
# sbatch options that slurm_extra may not contain -> the resource to use instead, or who sets the option
REPLACED_BY = {
    **{option: f"use the resource {name}" for name, option in reversed(SBATCH_OPTIONS.items())},
    "time": "use the resource runtime",
    "mem": "use the resource mem_mb",
    "mem-per-gpu": "use the resource mem_mb_per_gpu",
    "nodes": "use the resource nodes",
    "ntasks": "use the resource tasks",
    "ntasks-per-node": "use the resource tasks_per_node",
    "ntasks-per-gpu": "use the resource tasks_per_gpu",
    "cpus-per-task": "use the resource cpus_per_task",
    "cpus-per-gpu": "use the resource cpus_per_gpu",
    **dict.fromkeys(("gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket"), "use the resource gpus_per_node"),
    "no-requeue": "use the resource requeue",
    "array": "jobs with equal requests become an array automatically",
    **dict.fromkeys(
        ("job-name", "output", "error", "open-mode", "signal", "chdir", "parsable", "wrap", "wait", "test-only"),
        "the executor sets it, or needs it as it is",
    ),
}


@dataclass(frozen=True)
class Request:
    """The resources that one job requests.

    Attributes:
        nodes: number of nodes.
        tasks_per_node: ranks on each node.
        cpus_per_task: CPUs of a rank.
        gpus_per_node: GPUs on each node.
        gpu_model: model of GPU; None: any.
        mem_mb: memory per node in MB; None: the site's default.
        runtime_min: time limit in minutes.
        max_requeues: how often a job that reached its time limit goes back into the queue.
        sbatch: further options by sbatch's names.
        extra: further arguments for sbatch, as given.
        mpi: the command starts its tasks itself, with `srun` or `mpirun`; submitit starts one process only.
    """

    nodes: int = 1
    tasks_per_node: int = 1
    cpus_per_task: int = 1
    gpus_per_node: int = 0
    gpu_model: str | None = None
    mem_mb: int | None = None
    runtime_min: int = DEFAULT_RUNTIME_MIN
    max_requeues: int = 3
    sbatch: dict[str, str | bool] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    mpi: bool = False

    @property
    def num_tasks(self) -> int:
        """Return the number of tasks of the job, each with its CPUs."""
        return self.nodes * self.tasks_per_node

    @property
    def num_ranks(self) -> int:
        """Return the number of tasks that submitit starts."""
        return 1 if self.mpi else self.num_tasks


def parse_resources(resources: Mapping[str, Any], threads: int = 1) -> Request:
    """Parse the resources of a job; unknown names are left to Snakemake.

    Args:
        resources: values by Snakemake's names.
        threads: the rule's threads, used if `cpus_per_task` is not given.

    Raises:
        WorkflowError: naming the resource, its value and the allowed values.
    """
    counts = {name: _count(name, resources[name]) for name in COUNTS if resources.get(name) is not None}
    sbatch: dict[str, str | bool] = {}
    for name, option in SBATCH_OPTIONS.items():
        if value := _text(resources, name):
            sbatch.setdefault(option, value)
    _check_cluster(sbatch)
    gpus_per_node, gpu_model = _gpus(resources, sbatch)
    tasks_per_node = _tasks_per_node(counts, gpus_per_node)
    sbatch |= _switches(resources)
    return Request(
        nodes=counts.get("nodes", 1),
        tasks_per_node=tasks_per_node,
        cpus_per_task=_cpus_per_task(counts, gpus_per_node, tasks_per_node, threads),
        gpus_per_node=gpus_per_node,
        gpu_model=gpu_model,
        mem_mb=_mem_mb(counts, gpus_per_node),
        runtime_min=counts.get("runtime", DEFAULT_RUNTIME_MIN),
        max_requeues=0 if "no-requeue" in sbatch else _count("max_requeues", resources.get("max_requeues", 3), minimum=0),
        sbatch=sbatch,
        extra=tuple(_split_extra(resources)),
        mpi=_mpi(resources),
    )


def suggest_names(names: Iterable[str]) -> dict[str, str]:
    """Map each unknown resource name to the known name it most resembles."""
    import difflib

    suggestions = {}
    for name in names:
        if name not in NAMES | NAMES_OF_SNAKEMAKE and not name.startswith("_"):
            spellings = (name, name.removeprefix("slurm_"), f"slurm_{name}")
            found = [match for each in spellings for match in difflib.get_close_matches(each, NAMES, n=1, cutoff=0.8)]
            if found:
                suggestions[name] = found[0]
    return suggestions


def _check_cluster(sbatch: Mapping[str, str | bool]) -> None:
    """Refuse another cluster: job ids of two clusters may be equal, and Slurm's commands query one cluster by default."""
    cluster, here = sbatch.get("clusters"), os.environ.get("SLURM_CLUSTERS")
    if cluster not in (None, here):
        raise WorkflowError(
            f"resource clusters={cluster!r}: all jobs of a run go to one cluster; start Snakemake with SLURM_CLUSTERS={cluster} "
            "in its environment"
        )


def _count(name: str, value: Any, minimum: int = 1) -> int:
    try:
        count = int(value) if int(value) == float(value) else None
    except (TypeError, ValueError, OverflowError):
        count = None
    if count is None or isinstance(value, bool) or count < minimum:
        unit = " in minutes" if name == "runtime" else " in MB" if name.startswith("mem") else ""
        raise WorkflowError(f"resource {name}={value!r}: expected a whole number{unit}, at least {minimum}")
    return count


def _tasks_per_node(counts: Mapping[str, int], gpus_per_node: int) -> int:
    nodes = counts.get("nodes", 1)
    if "tasks_per_node" in counts:
        return counts["tasks_per_node"]
    if "tasks_per_gpu" in counts:
        return counts["tasks_per_gpu"] * _need_gpus("tasks_per_gpu", gpus_per_node)
    tasks = counts.get("tasks", nodes)
    if tasks % nodes:
        raise WorkflowError(f"resource tasks={tasks}: cannot be shared equally by nodes={nodes}")
    return tasks // nodes


def _cpus_per_task(counts: Mapping[str, int], gpus_per_node: int, tasks_per_node: int, threads: int) -> int:
    if "cpus_per_task" in counts or "cpus_per_gpu" not in counts:
        return counts.get("cpus_per_task", threads)
    cpus_per_node = counts["cpus_per_gpu"] * _need_gpus("cpus_per_gpu", gpus_per_node)
    if cpus_per_node % tasks_per_node:
        raise WorkflowError(
            f"resource cpus_per_gpu={counts['cpus_per_gpu']}: {cpus_per_node} CPUs of a node cannot be shared equally by its "
            f"{tasks_per_node} tasks; use cpus_per_task"
        )
    return cpus_per_node // tasks_per_node


def _mem_mb(counts: Mapping[str, int], gpus_per_node: int) -> int | None:
    if "mem_mb_per_cpu" in counts:
        return None
    if "mem_mb_per_gpu" in counts:
        return counts["mem_mb_per_gpu"] * _need_gpus("mem_mb_per_gpu", gpus_per_node)
    return counts.get("mem_mb")


def _need_gpus(name: str, gpus_per_node: int) -> int:
    if not gpus_per_node:
        raise WorkflowError(f"resource {name}: the job requests no GPU; set gpus_per_node too")
    return gpus_per_node


def _gpus(resources: Mapping[str, Any], sbatch: dict[str, str | bool]) -> tuple[int, str | None]:
    """Return the GPUs of a node and their model; GPUs in `gres` are moved here, so that they are requested in one way only."""
    name = next((name for name in GPUS if resources.get(name) is not None), None)
    count = _count(name, resources[name], minimum=0) if name else 0
    model = _text(resources, "gpu_model")
    gres = str(sbatch.pop("gres", ""))
    items = [item.strip().removeprefix("gres/") for item in gres.split(",") if item.strip()]
    gpus = [item for item in items if item.split(":")[0] == "gpu"]
    if others := [item for item in items if item not in gpus]:
        sbatch["gres"] = ",".join(others)
    if not gpus:
        return count, model
    if count or len(gpus) > 1:
        raise WorkflowError(f"resource gres={gres!r}: request GPUs once, of one model, in gpus_per_node or in gres")
    words = gpus[0].split(":")[1:]
    if words and not words[-1].isdigit():
        words.append("1")
    return int(words[-1]) if words else 1, words[0] if len(words) > 1 else model


def _mpi(resources: Mapping[str, Any]) -> bool:
    """Return whether the command starts its tasks itself: `mpi` is what it starts them with, or true or false."""
    text = _text(resources, "mpi")
    return text is not None and BOOLEANS.get(text.lower(), True)


def _switches(resources: Mapping[str, Any]) -> dict[str, str | bool]:
    options: dict[str, str | bool] = {}
    for name, (yes, no) in SWITCHES.items():
        text = _text(resources, name)
        if text is None:
            continue
        if name == "exclusive" and text.lower() in EXCLUSIVE_WORDS:
            options[yes] = text.lower()
            continue
        if text.lower() not in BOOLEANS:
            also = f", or one of {', '.join(EXCLUSIVE_WORDS)}" if name == "exclusive" else ""
            raise WorkflowError(f"resource {name}={text!r}: expected true or false{also}")
        option = yes if BOOLEANS[text.lower()] else no
        if option:
            options[option] = True
    return options


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
        arguments = shlex.split(text) if text else []
    except ValueError as err:
        raise WorkflowError(f"resource slurm_extra={text!r}: {err}") from err
    for argument in arguments:
        if not re.match(r"--\w", argument):
            raise WorkflowError(f"resource slurm_extra: write options as --name=value or --name; found {argument!r}")
        option, _ = _extra_option(argument)
        if replaced := _replaced_option(option):
            raise WorkflowError(f"resource slurm_extra: --{option} is not for slurm_extra; {REPLACED_BY[replaced]}")
    return arguments


def _replaced_option(name: str) -> str | None:
    """Return the option of REPLACED_BY that has this name or may be abbreviated to it; None if there is none."""
    name = name.replace("_", "-")  # as submitit does
    # no option of sbatch outside of REPLACED_BY is the beginning of one in it, so such a name can only be an abbreviation
    return name if name in REPLACED_BY else next((option for option in REPLACED_BY if option.startswith(name)), None)


def _extra_option(argument: str) -> tuple[str, str | bool]:
    name, separator, value = argument.removeprefix("--").partition("=")
    return name, value if separator else True


def user_defaults() -> dict[str, str]:
    """Return the options of sbatch, by name, that the user's environment sets for jobs that do not set them."""
    return {option: value for name, option in USER_DEFAULTS.items() if (value := os.environ.get(name))}


def time_to_save_s(runtime_min: float) -> float:
    """Return the seconds that a command has on Slurm to save its state and end, once its time limit is near."""
    return max(LEAST_TIME_TO_SAVE_S, _signal_delay_s(runtime_min) - REQUEUE_S)


def _signal_delay_s(runtime_min: float) -> int:
    return int(min(SIGNAL_DELAY_S, 25 * runtime_min))


def slurm_parameters(request: Request, *, name: str, comment: str, folder: Path) -> dict[str, Any]:
    """Return the parameters of submitit's Slurm executor.

    A job of one rank is a plain batch script without an `srun` step: slurmctld serves 2 calls for it instead of 5, the command
    may use `srun` itself, and the signal before the time limit (`B:`) reaches the task and not its children.

    Args:
        request: the resources of the job.
        name: name shown by squeue.
        comment: comment shown by sacct.
        folder: submitit's folder, from which the job reads its task.
    """
    options: dict[str, Any] = user_defaults() | request.sbatch
    if request.gpus_per_node:
        options["gpus-per-node"] = ":".join(filter(None, [request.gpu_model, str(request.gpus_per_node)]))
    options |= dict(_extra_option(argument) for argument in request.extra)
    if "no-requeue" not in options:
        options["requeue"] = True  # after preemption or node failure, even if the site's default is no requeue
    signal_delay_s = _signal_delay_s(request.runtime_min)
    parameters: dict[str, Any] = {
        "job_name": name,
        "comment": comment,
        "time": request.runtime_min,
        "nodes": request.nodes,
        "ntasks_per_node": request.tasks_per_node,
        "cpus_per_task": request.cpus_per_task,
        "signal_delay_s": signal_delay_s,
        "stderr_to_stdout": True,
        "wckey": "",
        "additional_parameters": options,
    }
    if request.num_ranks > 1:
        # since Slurm 22.05 srun does not inherit the CPUs of a task; a lost rank must end its peers
        # --export=ALL because SLURM_EXPORT_ENV or sbatch's --export=NONE would leave the tasks without PATH
        parameters["srun_args"] = [f"--cpus-per-task={request.cpus_per_task}", "--kill-on-bad-exit=1", "--export=ALL"]
    else:
        options["signal"] = f"B:USR2@{signal_delay_s}"
        run = shlex.join([sys.executable, "-u", "-m", "snakemake_executor_plugin_submitit.job.start", str(folder)])
        # the shell has to become the task, because the signal is sent to the shell alone
        cpus = f"export SRUN_CPUS_PER_TASK={request.cpus_per_task}"  # for the command's own srun
        parameters |= {"use_srun": False, "setup": ["export SUBMITIT_EXECUTOR=slurm", cpus, f"exec {run}"]}
    if request.mem_mb is not None:
        parameters["mem"] = f"{request.mem_mb}MB"
    return parameters
