"""A spare process for a rule's command, so that a Python program whose modules the worker has loaded need not load them again.

A job of a pool forks once more before Snakemake starts in it, while it has a single thread. If the rule's command is nothing but
a call of a console script (`spmd` in front of it or not) whose module is loaded, the spare process becomes that call: a child of
Snakemake, in the job's session, with the command's environment, directory and output. Any other command is run by bash, and the
spare ends unused.
"""

import importlib
import importlib.metadata
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from snakemake_executor_plugin_submitit.job import ranks

PREFIX = "set -euo pipefail; "  # Snakemake's, before the command of a rule
PLAIN = re.compile(r"""(?:[\w@%+=:,./ \t-]|'[^']*'|"'")+""")  # words as shlex.quote writes them: nothing for a shell to do
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""Variables that Snakemake sets for a command, and that libraries read while they are loaded."""
AT_START = ("PYTHON", "LD_", *THREADS)
"""Prefixes of variables that Python, the loader or libraries have already read when a command comes."""


def loaded_programs(modules: Sequence[str]) -> dict[str, str]:
    """Return the console scripts whose module is loaded and in the same package as one of these, and their functions.

    Returns:
        `module:function` by the name of the script.
    """
    packages = {name.partition(".")[0] for name in modules}
    scripts = importlib.metadata.entry_points(group="console_scripts") if packages else ()
    return {
        script.name: script.value
        for script in scripts
        if script.module in sys.modules and script.module.partition(".")[0] in packages and ":" in script.value
    }


class Spare:
    """The process that waits for the command of a job."""

    def __init__(
        self, programs: Mapping[str, str], threads: Mapping[str, str], end: Callable[[Callable[[], object]], NoReturn]
    ) -> None:
        """Fork; the process must have one thread.

        Args:
            programs: what it can run, see `loaded_programs`.
            threads: the variables of `THREADS` as they were when modules were loaded.
            end: calls a function and ends the process as Python would.
        """
        self._programs, self._environment = programs, {**os.environ, **threads}
        self._unused = threading.Semaphore(1)
        self._connection, there = socket.socketpair()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            self._connection.close()
            _serve(there, parent, end)
        there.close()

    def start(self, command: str, environment: Mapping[str, str]) -> bool:
        """Run a command in the spare process; return False if bash has to run it."""
        call = self._call(command, environment)
        if call is None or not self._unused.acquire(blocking=False):
            return False
        request = {"argv": call[0], "function": call[1], "environment": dict(environment), "cwd": str(Path.cwd())}
        with self._connection as connection:
            connection.sendall(json.dumps(request).encode())
        return True

    def _call(self, command: str, environment: Mapping[str, str]) -> tuple[list[str], str] | None:
        """Return the words and the function of a command that the spare can run, None for others."""
        words = plain_words(command)
        if words[:1] == ["spmd"]:
            words = words[1:]
        if not words or words[0] not in self._programs or self._differs(environment):
            return None
        program = shutil.which(words[0], path=environment.get("PATH", os.defpath))
        if program is None or Path(program).parent != Path(sys.executable).parent:
            return None
        return [program, *words[1:]], self._programs[words[0]]

    def _differs(self, environment: Mapping[str, str]) -> bool:
        """Return True if a variable that matters while modules are loaded is not what it was then."""
        names = {name for name in (*environment, *self._environment) if name.startswith(AT_START)}
        return any(environment.get(name) != self._environment.get(name) for name in names)


def plain_words(command: str) -> list[str]:
    """Return the words of a command in which a shell would change nothing; no words of any other."""
    command = command.removeprefix(PREFIX).strip()
    return shlex.split(command) if PLAIN.fullmatch(command) else []


def _serve(connection: socket.socket, parent: int, end: Callable[[Callable[[], object]], NoReturn]) -> NoReturn:
    """Wait for a command, and become it; end when the other side is closed without one."""
    ranks.prepare_child()
    if os.getppid() != parent:  # it died before the kernel was told to end this process with it
        os._exit(1)
    with connection, connection.makefile("rb") as stream:
        request = stream.read()
    if not request:
        os._exit(0)
    end(lambda: _run(json.loads(request)))


def _run(request: Mapping[str, Any]) -> NoReturn:
    """Run a program as its console script does."""
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    sys.argv = request["argv"]
    print(f"{Path(sys.argv[0]).name}: its modules are those that the worker has loaded", flush=True)
    sys.path[0] = str(Path(sys.argv[0]).parent)
    script = types.ModuleType("__main__")
    script.__file__ = sys.argv[0]
    sys.modules["__main__"] = script
    module, _, name = request["function"].partition(":")
    function: Any = sys.modules[module]
    for part in name.partition("[")[0].strip().split("."):
        function = getattr(function, part)
    sys.exit(function())


class Processes:
    """What `snakemake.shell` uses of the module `subprocess`, with a `Popen` that prefers the spare process."""

    def __init__(self, spare: Spare) -> None:
        """Use a spare process for the first command that it can run."""
        self._spare = spare

    def __getattr__(self, name: str) -> Any:
        """Return everything else as `subprocess` has it."""
        return getattr(subprocess, name)

    def Popen(self, command: Any, **options: Any) -> Any:
        """Start a command."""
        stdout = options.get("stdout")
        is_to_log = stdout is None or getattr(stdout, "fileno", lambda: None)() == 1  # not a pipe, or a file
        is_plain = options.get("shell") and is_to_log and isinstance(command, str)
        if is_plain and self._spare.start(command, options.get("env") or os.environ):
            return SpareProcess(self._spare.pid)
        return subprocess.Popen(command, **options)


class SpareProcess:
    """A command in the spare process, with the few parts of a `Popen` that Snakemake uses."""

    stdout = None

    def __init__(self, pid: int) -> None:
        """Wrap a running child of this process."""
        self.pid = pid
        self.returncode: int | None = None

    def wait(self) -> int:
        """Wait for the end; return the exit status, or a signal as a negative number."""
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def kill(self) -> None:
        """Kill it."""
        self._send(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)


def use_for_shell_commands(spare: Spare) -> None:
    """Have Snakemake start the command of a rule in the spare process, where it can."""
    shell: Any = importlib.import_module("snakemake.shell")  # `snakemake.shell` may be the class in it
    if hasattr(shell, "sp"):
        shell.sp = Processes(spare)
