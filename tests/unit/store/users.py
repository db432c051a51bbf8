"""Two users of one group, as whom root can run a function: for what permissions of a shared store allow."""

import os
import pickle

import pytest

import snakemake_executor_plugin_submitit.processes  # noqa: F401 - a user may not be able to read it, and imports it late

ALICE, BOB, GROUP = 61001, 61002, 62000
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as other users")


def as_user(user, function):
    """Run a function in a process of a user of the group, with umask 022; return its result, or raise its error."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([GROUP])
            os.setgid(GROUP)
            os.setuid(user)
            os.umask(0o022)
            outcome = (function(), None)
        except BaseException as err:
            outcome = (None, err)
        os.write(writer, pickle.dumps(outcome))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        result, error = pickle.loads(stream.read())
    os.waitpid(child, 0)
    if error is not None:
        raise error
    return result
