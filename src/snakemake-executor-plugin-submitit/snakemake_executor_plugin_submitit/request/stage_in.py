"""The resource `stage_in`: which inputs of a job are read from copies on the node's own disk."""

from collections.abc import Mapping
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError


def stage_in_arguments(resources: Mapping[str, Any], inputs: Any, folder: str | None, most_gb: int | None) -> list[str]:
    """Return the arguments that make a job's Snakemake stage its inputs; empty if there are none to stage.

    Args:
        resources: the job's resources.
        inputs: the job's named inputs; None for a group, whose jobs have their own.
        folder: where copies are kept on a node; None: in the job's temporary folder.
        most_gb: limit for all copies on a node; None: as much as its disk holds.

    Raises:
        WorkflowError: naming the value, and the inputs that there are.
    """
    value = resources.get("stage_in")
    if not value:
        return []
    names = [name.strip() for name in str(value).split(",")]
    known = {name.removesuffix("/") for name in names} if inputs is None else inputs.keys()
    if not isinstance(value, str) or any(name.removesuffix("/") not in known for name in names):
        there = ", ".join(known if inputs is not None else ()) or "none with a name"
        raise WorkflowError(
            f"resource stage_in={value!r}: expected names of inputs of the rule, separated by commas, as in data for a file, "
            f"or data/ for the folder that the file is in; its inputs: {there}"
        )
    where = ["--stage-in-folder", folder] if folder else []
    return ["--stage-in", ",".join(names), *where, *(["--stage-in-gb", str(most_gb)] if most_gb else [])]
