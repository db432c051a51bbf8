"""The process of one job: a fork of its worker that becomes what `bash -c COMMAND` would have started.

It is the leader of a session of its own, writes to the log of its job, has the default signal handlers, and dies with its
worker. A plain call of Snakemake continues in this very process, where Snakemake is loaded already; any other command is run by
bash.
"""

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from snakemake_executor_plugin_submitit.job import ranks, shim
from snakemake_executor_plugin_submitit.private import FILE_MODE
from snakemake_executor_plugin_submitit.worker.spare import Spare, use_for_shell_commands
from snakemake_executor_plugin_submitit.worker.tickets import Ticket
from snakemake_executor_plugin_submitit.worker.warm import WarmModules

LOG = "pool_0_log.out"
DEFAULTS = (signal.SIGTERM, signal.SIGCHLD, signal.SIGCONT, signal.SIGHUP, signal.SIGALRM)


def fork(ticket: Ticket, variables: Mapping[str, str], warm: WarmModules, *, umask: int, worker: str) -> int:
    """Start a job; return its process, which is the leader of its session.

    Args:
        ticket: what to run.
        variables: its environment in addition to the worker's own.
        warm: the loaded modules.
        umask: that of its command.
        worker: the name of the worker, for the log.

    Raises:
        OSError: if the process or its log cannot be created.
    """
    log = os.open(Path(ticket.job_dir) / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError:
        os.close(log)
        raise
    if pid:
        os.close(log)
        return pid
    try:
        _become_leader(parent, log, umask)
        print(f"Starting with worker {worker} of a pool on {ranks.host()}", flush=True)
        os.environ.update(variables)
        _run(ticket, warm)
    except BaseException:
        with contextlib.suppress(BaseException):
            traceback.print_exc()
            sys.stderr.flush()
    os._exit(1)


def _become_leader(parent: int, log: int, umask: int) -> None:
    os.setsid()
    ranks.prepare_child()
    if os.getppid() != parent:  # it died before the kernel was told to end this process with it
        os._exit(1)
    signal.set_wakeup_fd(-1)
    for number in DEFAULTS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    os.umask(umask)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)


def _run(ticket: Ticket, warm: WarmModules) -> NoReturn:
    if ticket.cwd is not None:
        os.chdir(ticket.cwd)
    if ticket.arguments is None:
        os.execvp("bash", ["bash", "-c", ticket.command])
    arguments = ticket.arguments
    sys.argv = [str(shim.__file__), *arguments]
    sys.path[0] = str(Path.cwd())  # as `python -m` has it
    _forget_exit_functions()
    if (random := sys.modules.get("numpy.random")) is not None:
        random.seed()  # its global generator would be the same in all jobs of the worker
    if warm.programs:
        use_for_shell_commands(Spare(warm.programs, warm.threads, _end_with))
    _end_with(lambda: shim.run(arguments))


def _end_with(function: Callable[[], object]) -> NoReturn:
    """Call a function, and exit with the status that Python would exit with."""
    status = 1
    try:
        function()
        status = 0
    except SystemExit as err:
        status = err.code if isinstance(err.code, int) else int(err.code is not None)
        if isinstance(err.code, str):
            print(err.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    _end(status)


def _forget_exit_functions() -> None:
    """Forget the exit handlers of the worker and its modules, which may remove their files."""
    atexit._clear()
    if (multiprocessing := sys.modules.get("multiprocessing.util")) is not None:
        atexit.register(multiprocessing._exit_function)
    atexit.register(logging.shutdown)


def _end(status: int) -> NoReturn:
    """Exit as an interpreter does: wait for threads, call the exit handlers, flush the output."""
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
    os._exit(status & 0xFF)
