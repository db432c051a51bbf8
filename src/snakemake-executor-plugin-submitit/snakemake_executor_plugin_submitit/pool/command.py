"""Tell whether a job's command is a plain call of Snakemake, which a worker can run in a fork of itself."""

import re
import shlex
import sys

from snakemake_executor_plugin_submitit.job import shim

MODULE = "snakemake_executor_plugin_submitit.job.shim"
# a word in which a shell has nothing to expand: without special characters, or quoted
_WORD = r"""(?:[\w@%+=:,./^-]|'[^']*'|"[^"$`\\!]*")+"""
_CALL = re.compile(rf" *(?:cd +({_WORD}) +&& +)?({_WORD}) +-m +{re.escape(MODULE)}((?: +{_WORD})*) *")


def snakemake_call(command: str) -> tuple[list[str] | None, str | None]:
    """Return Snakemake's arguments and the working directory (None: the current one); (None, None) if bash has to run it.

    A plain call is `[cd FOLDER &&] PYTHON -m …shim ARGUMENT…`, without variables, a precommand, or anything else for a shell.
    """
    found = _CALL.fullmatch(command)
    if found is None or shlex.split(found[2]) != [sys.executable]:
        return None, None
    arguments = shlex.split(found[3])
    if shim.DATABASE in arguments:  # a worker has loaded Snakemake without it
        return None, None
    return arguments, shlex.split(found[1])[0] if found[1] else None
