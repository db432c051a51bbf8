"""The resources of the Slurm job around the main process, as Slurm reports them."""

import os
import re
import subprocess

from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_submitit.request.allocation import Allocation
from snakemake_executor_plugin_submitit.submission.commands import query_environment

TIMEOUT_S = 60
_UNITS = {"K": 2**-10, "M": 1, "G": 2**10, "T": 2**20}


def own_allocation() -> Allocation:
    """Return the Slurm job around this process.

    Raises:
        WorkflowError: if there is none, or Slurm does not say what it has.
    """
    job_id = os.environ.get("SLURM_JOB_ID")
    if not job_id:
        raise WorkflowError(
            "--submitit-cluster allocation: this process runs in no Slurm job (there is no SLURM_JOB_ID). Start Snakemake in "
            "one, by sbatch or salloc; or use cluster slurm, which submits jobs"
        )
    command = ["scontrol", "-o", "show", "job", job_id]
    try:
        listing = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=query_environment())
    except (OSError, subprocess.TimeoutExpired) as err:
        raise WorkflowError(f"--submitit-cluster allocation: scontrol does not answer: {err}") from err
    resources = parse_resources_of_job(listing.stdout)
    if listing.returncode or resources is None:
        said = listing.stderr.strip() or listing.stdout.strip()[:300]
        raise WorkflowError(f"--submitit-cluster allocation: Slurm does not say what job {job_id} has: {said}")
    return Allocation(job_id, *resources)


def parse_resources_of_job(text: str) -> tuple[int, int, int, int | None] | None:
    """Return nodes, CPUs, GPUs and memory in MB from a line of `scontrol show job`; None if they are not there."""
    found = re.findall(r"(?:^|\s)(?:Alloc)?TRES=(\S+)", text)
    if not found:
        return None
    counts = dict(item.partition("=")[::2] for item in found[-1].split(","))
    memory = re.fullmatch(r"([\d.]+)([KMGT]?)", counts.get("mem", ""))
    gpus = counts.get("gres/gpu") or sum(int(count) for name, count in counts.items() if name.startswith("gres/gpu:"))
    try:
        nodes, cpus = int(counts["node"]), int(counts["cpu"])
    except (KeyError, ValueError):
        return None
    return nodes, cpus, int(gpus), int(float(memory[1]) * _UNITS[memory[2] or "M"]) if memory else None
