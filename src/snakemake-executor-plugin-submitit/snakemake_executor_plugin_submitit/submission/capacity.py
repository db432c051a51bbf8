"""Compare a request with what the nodes of the cluster have, because Slurm may let an impossible job wait for ever."""

import functools
import re
import subprocess
from collections import Counter

from snakemake_executor_plugin_submitit.request.resources import Request, user_defaults
from snakemake_executor_plugin_submitit.submission.commands import query_environment

SINFO_TIMEOUT_S = 20
_GPU = re.compile(r"gpu(?::([^:(,]+))??:(\d+)(?=$|[(,:])")


def missing_gpus(request: Request) -> str | None:
    """Return what to tell the user if no node has as many GPUs as are requested; None if one has, or if that is unknown."""
    nodes = _gpus_of_nodes() if request.gpus_per_node else ()
    wanted = request.sbatch.get("partition") or user_defaults().get("partition")
    partitions = str(wanted).split(",") if wanted else [name.rstrip("*") for name, _ in nodes if name.endswith("*")]
    candidates = [gpus for name, gpus in nodes if name.rstrip("*") in partitions]
    if not candidates:
        return None
    model = request.gpu_model
    most = max(gpus[model] if model else sum(gpus.values()) for gpus in map(Counter, map(dict, candidates)))
    if most >= request.gpus_per_node:
        return None
    what = f"{request.gpus_per_node} {model + ' ' if model else ''}GPUs per node"
    return f"the job requests {what}, and no node of partition {', '.join(partitions)} has more than {most}: it may wait for ever"


@functools.cache
def _gpus_of_nodes() -> tuple[tuple[str, tuple[tuple[str, int], ...]], ...]:
    """Return each kind of node's partition (the default with a star) and GPUs by model; empty if sinfo does not answer."""
    command = ["sinfo", "-a", "-h", "-o", "%P|%G"]
    try:
        listing = subprocess.run(command, capture_output=True, text=True, timeout=SINFO_TIMEOUT_S, env=query_environment())
    except (OSError, subprocess.TimeoutExpired):
        return ()
    lines = [line.strip().partition("|") for line in listing.stdout.splitlines() if "|" in line]
    return tuple((partition, _gpus(gres)) for partition, _, gres in lines)


def _gpus(gres: str) -> tuple[tuple[str, int], ...]:
    """Return the number of GPUs by model, from Slurm's notation as in `gpu:a100:2(S:0-1),gpu:h100:4`."""
    counts: Counter[str] = Counter()
    for model, count in _GPU.findall(gres):
        counts[model] += int(count)
    return tuple(counts.items())
