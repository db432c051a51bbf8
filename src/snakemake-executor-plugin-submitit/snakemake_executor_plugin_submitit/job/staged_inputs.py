"""Make Snakemake, inside a job, give the rule's command copies of inputs on the node's own disk; see `staging`."""

from pathlib import Path
from typing import Any

from snakemake_executor_plugin_submitit.job.staging import stage


def stage_inputs(wanted: list[str], folder: str | None, most_gb: int | None) -> None:
    """Make jobs of this process read copies of some inputs.

    Args:
        wanted: names of inputs: `name` for a file, `name/` for the folder that it is in.
        folder: where copies are kept; None: see `staging.node_folder`.
        most_gb: limit for all copies on this node; None: as much as its disk holds.
    """
    from snakemake.executors.local import Executor
    from snakemake.iocontainers import Namedlist

    if not hasattr(Executor, "job_args_and_prepare"):
        return
    prepare_job = Executor.job_args_and_prepare

    def job_args_and_prepare(self: Any, job: Any) -> Any:
        rule, inputs, *rest = prepare_job(self, job)
        read = _staged(inputs, wanted, folder, most_gb) if isinstance(inputs, Namedlist) else {}
        return (rule, type(inputs)(toclone=inputs, custom_map=lambda path: read.get(path, path)), *rest)

    Executor.job_args_and_prepare = job_args_and_prepare


def _staged(inputs: Any, wanted: list[str], folder: str | None, most_gb: int | None) -> dict[str, str]:
    """Return the paths to read in place of some inputs."""
    given = dict(inputs.items())
    paths: dict[str, str] = {}  # of inputs, by the name of the link
    originals: dict[str, Path] = {}  # what is copied: the file, or the folder that it is in
    for name in wanted:
        key = name.removesuffix("/")
        found = given.get(key, ())
        for number, path in enumerate([found] if isinstance(found, str) else found):
            place = f"{key}-{number}"
            paths[place], originals[place] = path, Path(path).parent if name.endswith("/") else Path(path)
    read = {}
    for place, link, why in stage(originals, folder, most_gb):
        if why:
            print(f"stage_in: {originals[place]} is read from where it is: {why}", flush=True)
        read[paths[place]] = str(link / Path(paths[place]).relative_to(originals[place]))
    return read
