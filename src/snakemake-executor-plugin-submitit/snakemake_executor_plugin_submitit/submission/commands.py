"""Call Slurm's commands so that only their arguments decide what they do, not the user's environment.

A user's `SBATCH_PARTITION` would override the partition of a rule, `SQUEUE_PARTITION` would hide jobs, and `SBATCH_WAIT` would
make the main process wait for a job. The jobs themselves get these variables back: their commands may call Slurm, too.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence

from snakemake_executor_plugin_submitit.processes import signal_name

OUTER_JOB_PREFIXES = ("SLURM_", "SLURMD_", "SUBMITIT_", "SPMD_")
KEPT = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")
OPTION_PREFIXES = ("SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SINFO_", "SCONTROL_")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

SBATCH_SLOW_S = 5.0  # then the user is warned
SBATCH_LIMIT_S = 300.0
_running: set["subprocess.Popen[str]"] = set()
_stopped = threading.Event()
_lock = threading.Lock()


class BusyError(Exception):
    """Slurm cannot take the job now, but may later."""


class LimitError(BusyError):
    """There are as many jobs as the user, account or QOS may have; fewer jobs, or those of another kind, may be taken."""


class RefusedError(Exception):
    """The job was refused; the text is that of sbatch."""


def is_of_outer_job(name: str) -> bool:
    """Return True for a variable of the Slurm job in which this process runs, which submitted jobs must not inherit."""
    return name.startswith(OUTER_JOB_PREFIXES) and name not in KEPT


def query_environment() -> dict[str, str]:
    """Return the environment for Slurm's commands: no variables that stand for options, and untruncated lists of tasks."""
    return {n: v for n, v in os.environ.items() if not n.startswith(OPTION_PREFIXES)} | {"SLURM_BITSTR_LEN": "0"}


def restored_options() -> list[str]:
    """Return shell commands that give a job the variables that sbatch was called without."""
    names = sorted(name for name in os.environ if name.startswith(OPTION_PREFIXES) and _NAME.fullmatch(name))
    return [f"export {name}={shlex.quote(os.environ[name])}" for name in names]


def sbatch(arguments: Sequence[str], warn: Callable[[str], None]) -> str:
    """Call sbatch, in a session of its own: Ctrl-C in the terminal reaches only the main process, which decides what to do.

    Args:
        arguments: the words after `sbatch`.
        warn: tells the user that sbatch is slow.

    Raises:
        BusyError: if it does not answer.
        RefusedError: if it reports an error, with its words, or was or would have been stopped by `stop_sbatch`.
        OSError: if it cannot be started.
    """
    environment = {name: value for name, value in query_environment().items() if not is_of_outer_job(name)}
    with _lock:
        if _stopped.is_set():
            raise RefusedError("sbatch was not called: the run has ended")
        process = subprocess.Popen(
            ["sbatch", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        _running.add(process)
    try:
        output, error = _communicate(process, warn)
    finally:
        with _lock:
            _running.discard(process)
    if process.returncode < 0:
        raise RefusedError(f"sbatch was ended by {signal_name(-process.returncode)} before it answered")
    if process.returncode:
        raise RefusedError(error.strip() or f"sbatch ended with status {process.returncode}")
    return output


def _communicate(process: "subprocess.Popen[str]", warn: Callable[[str], None]) -> tuple[str, str]:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.communicate(timeout=SBATCH_SLOW_S)
    warn(f"sbatch has not answered for {SBATCH_SLOW_S:.0f} s; still waiting for it")
    try:
        return process.communicate(timeout=SBATCH_LIMIT_S - SBATCH_SLOW_S)
    except subprocess.TimeoutExpired:
        _kill(process)
        process.communicate()
        raise BusyError(f"sbatch did not answer for {SBATCH_LIMIT_S:.0f} s and was stopped") from None


def stop_sbatch() -> None:
    """Kill the calls of sbatch that are under way, and let no others begin, until `allow_sbatch`.

    A job that a killed one has submitted finds no task, and ends by itself.
    """
    with _lock:
        _stopped.set()
        for process in _running:
            _kill(process)


def allow_sbatch() -> None:
    """Let sbatch be called, in a new run."""
    _stopped.clear()


def _kill(process: "subprocess.Popen[str]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
