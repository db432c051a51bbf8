"""Snakemake executor plugin that submits every job through submitit, to Slurm or to this machine.

Every Snakemake process and every task of a job imports this module, so it imports nothing heavy. (No
`from __future__ import annotations` here: Snakemake reads the types of the settings at run time.)
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

MINIMUM = {
    "poll_seconds": 1,
    "array_size": 1,
    "keep_days": 0,
    "pool_minutes": 1,
    "stage_in_gb": 1,
    "local_cpus": 1,
    "local_gpus": 0,
    "local_mem_mb": 1,
}


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """Settings of the executor; each is a flag `--submitit-…` and a profile key `submitit-…`."""

    cluster: str = field(
        default="slurm",
        metadata={
            "help": "Where jobs run: slurm; local (this machine, no Slurm needed); or allocation (as steps of the Slurm job in "
            "which Snakemake itself runs).",
            "choices": ["slurm", "local", "allocation"],
        },
    )
    folder: Path = field(
        default_factory=lambda: Path(".snakemake/submitit"),  # a factory: catalogues write plain defaults as JSON
        metadata={
            "help": "Folder of job logs and submission files (default: .snakemake/submitit); the compute nodes must see it."
        },
    )
    poll_seconds: float = field(
        default=20.0,
        metadata={"help": "Longest pause between two queries of Slurm; results are noticed sooner, from files."},
    )
    array_size: int = field(
        default=500,
        metadata={"help": "Maximum number of jobs in one job array; 1: no arrays. At most the site's MaxArraySize - 1."},
    )
    detach: bool = field(
        default=False,
        metadata={"help": "On Ctrl-C leave the jobs running; the same command adopts them later."},
    )
    keep_days: int = field(
        default=30,
        metadata={"help": "Days to keep logs of attempts other than a job's latest; 0: for ever."},
    )
    partitions: Path | None = field(
        default=None,
        metadata={
            "help": "YAML file of the partitions' limits; a job that names no partition goes to the best fitting one.",
            "type": Path,
        },
    )
    efficiency_report: bool = field(
        default=False,
        metadata={"help": "At the end, compare requested and used resources by rule; needs Slurm's accounting."},
    )
    pool_minutes: int = field(
        default=60,
        metadata={
            "help": "Minutes for which a worker of a pool starts jobs; its time limit adds that of the longest job and 3 minutes."
        },
    )
    pool_preload: str | None = field(
        default=None,
        metadata={
            "help": "Python modules, separated by commas, that workers of pools load once for all their jobs.",
            "type": str,
        },
    )
    stage_in_folder: str | None = field(
        default=None,
        metadata={
            "help": "Folder on each node's own disk for copies of inputs (resource stage_in); the node expands variables in it.",
            "type": str,
        },
    )
    stage_in_gb: int | None = field(
        default=None,
        metadata={"help": "Maximum GB of such copies on a node (default: all but a tenth of its disk).", "type": int},
    )
    local_cpus: int | None = field(
        default=None,
        metadata={
            "help": "CPUs that jobs share with local or allocation (default: those of this process, or of the Slurm job).",
            "type": int,
        },
    )
    local_gpus: int | None = field(
        default=None,
        metadata={
            "help": "GPUs that jobs share (default: those in CUDA_VISIBLE_DEVICES, else those that nvidia-smi lists; or of the "
            "Slurm job).",
            "type": int,
        },
    )
    local_mem_mb: int | None = field(
        default=None,
        metadata={"help": "Memory in MB that jobs share (default: that of this machine, or of the Slurm job).", "type": int},
    )

    def __post_init__(self) -> None:
        """Check the values and adapt Snakemake; called if this executor is selected, before Snakemake reads files and locks."""
        for name, minimum in MINIMUM.items():
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise WorkflowError(f"--submitit-{name.replace('_', '-')}={value:g}: expected a number, at least {minimum}")
        from snakemake_executor_plugin_submitit.tracking.configfiles import name_unreadable_files
        from snakemake_executor_plugin_submitit.tracking.locks import watch_locks

        name_unreadable_files()
        watch_locks()


common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    pass_default_storage_provider_args=True,
    pass_default_resources_args=True,
    pass_envvar_declarations_to_cmd=False,
    auto_deploy_default_storage_provider=False,
    init_seconds_before_status_checks=0,
)


def __getattr__(name: str) -> Any:
    """Import the executor when Snakemake asks for it."""
    if name == "Executor":
        from snakemake_executor_plugin_submitit.executor import Executor

        return Executor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
