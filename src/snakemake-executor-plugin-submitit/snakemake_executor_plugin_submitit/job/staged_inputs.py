"""Have Snakemake, in a job, give the rule's command copies of inputs on the node's own disk; see `staging`."""

from pathlib import Path
from typing import Any

from snakemake_executor_plugin_submitit.job.staging import stage


def stage_inputs(wanted: list[str], folder: str | None) -> None:
    """Have jobs of this process read copies of some inputs.

    Args:
        wanted: names of inputs: `name` for a file, `name/` for the folder that it is in.
        folder: where copies are; None: see `staging.node_folder`.
    """
    from snakemake.executors.local import Executor
    from snakemake.iocontainers import Namedlist

    if not hasattr(Executor, "job_args_and_prepare"):
        return
    prepare_job = Executor.job_args_and_prepare

    def job_args_and_prepare(self: Any, job: Any) -> Any:
        rule, inputs, *rest = prepare_job(self, job)
        read = _staged(inputs, wanted, folder) if isinstance(inputs, Namedlist) else {}
        return (rule, type(inputs)(toclone=inputs, custom_map=lambda path: read.get(path, path)), *rest)

    Executor.job_args_and_prepare = job_args_and_prepare


def _staged(inputs: Any, wanted: list[str], folder: str | None) -> dict[str, str]:
    """Return the paths to read in place of some inputs."""
    given = dict(inputs.items())
    names = {name: name.removesuffix("/") for name in wanted if name.removesuffix("/") in given}
    paths = {name: [given[key]] if isinstance(given[key], str) else list(given[key]) for name, key in names.items()}
    originals = {
        f"{key}-{number}": Path(path).parent if name.endswith("/") else Path(path)
        for name, key in names.items()
        for number, path in enumerate(paths[name])
    }
    found = {}
    for place, link, why in stage(originals, folder):
        if why:
            print(f"stage_in: {originals[place]} is read from where it is: {why}", flush=True)
        found[place] = link
    return {
        path: str(found[f"{key}-{number}"] / Path(path).name if name.endswith("/") else found[f"{key}-{number}"])
        for name, key in names.items()
        for number, path in enumerate(paths[name])
    }
