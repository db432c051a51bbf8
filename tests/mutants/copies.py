"""Run test files on a copy of the package, in a process that has the libraries already."""

import atexit
import compileall
import contextlib
import gc
import importlib
import multiprocessing
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.mutants.table import PACKAGE, ROOT, Fault, Run

LIBRARIES = (
    "anyio.pytest_plugin", "hypothesis.internal.conjecture.providers", "matplotlib.pyplot", "numpy", "PIL.Image",
    "pydantic.fields", "pydantic.main", "safetensors.torch", "scipy.special", "scipy.stats", "sklearn.datasets",
    "spikingjelly.activation_based.neuron", "torch", "torch._dynamo", "torchvision", "yaml",
)  # fmt: skip
"""What takes long to import, and starts no threads: imported once, before processes are forked. Never the package itself."""


class Outcome(NamedTuple):
    """What became of the tests: "passed", "failed", "too slow", or "broken"; the test that failed; seconds."""

    state: str
    by: str
    seconds: float


class _FirstFailure:
    """A plugin of pytest that remembers which test failed first."""

    def __init__(self) -> None:
        self.name = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.failed and not self.name:
            self.name = report.nodeid

    pytest_collectreport = pytest_runtest_logreport


def import_libraries() -> None:
    """Import what is to be there in every process, with one thread each."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()  # pytest collects garbage several times, which would go through all of these each time
    atexit.register(gc.unfreeze)


@dataclass
class Copy:
    """A copy of the package, in which one fault at a time is made, and the process that tests it."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> "Copy":
        """Copy the package as it is now; bytecode of it is valid for a source of the same text alone."""
        shutil.copytree(PACKAGE, folder / "spikedistill", ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(folder, quiet=1, invalidation_mode=compileall.py_compile.PycInvalidationMode.CHECKED_HASH)
        return cls(folder)

    @property
    def log(self) -> Path:
        """What the tests have printed."""
        return self.folder / "log"

    def start(self, fault: Fault | None, runs: tuple[Run, ...]) -> None:
        """Make a fault, or none, and start the tests."""
        self._file = self.folder / "spikedistill" / (fault.file if fault else "__init__.py")
        self._source = self._file.read_text(encoding="utf-8")
        if fault:
            self._file.write_text(fault.applied(self._source), encoding="utf-8")
        fork = multiprocessing.get_context("fork")
        self._answer, answer = fork.Pipe(duplex=False)
        self.process = fork.Process(target=_run_tests, args=(self.folder, self.log, runs, answer))
        self._started = time.monotonic()
        self.process.start()
        answer.close()

    def seconds(self) -> float:
        """Return how long the tests have been running."""
        return time.monotonic() - self._started

    def finish(self, *, late: bool) -> Outcome:
        """Unmake the fault and return what became of the tests; end them first if they are too `late`."""
        seconds = self.seconds()
        if late:
            self.process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # what the tests have started
        self.process.join()
        self._file.write_text(self._source, encoding="utf-8")
        if late:
            return Outcome("too slow", "", seconds)
        try:
            return Outcome(*self._answer.recv(), seconds)
        except EOFError:
            return Outcome("broken", f"the process ended with {self.process.exitcode}", seconds)


def _run_tests(folder: Path, log: Path, runs: tuple[Run, ...], answer: Connection) -> None:
    """Send state and first failure of some test files, which import the copy in `folder`; runs in a process of its own."""
    os.setsid()
    with log.open("w", encoding="utf-8") as out:
        for stream in (1, 2):
            os.dup2(out.fileno(), stream)
    os.environ["PYTHONPATH"] = str(folder)
    sys.path.insert(0, str(folder))
    first, code = _FirstFailure(), 0
    for markers, file in runs:
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-m", markers, str(ROOT / "tests" / file)], plugins=[first])
        if code:
            break
    files = [module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "spikedistill"]
    assert files and all(file and Path(file).is_relative_to(folder) for file in files), f"not of the copy: {files}"
    known = {pytest.ExitCode.OK: "passed", pytest.ExitCode.TESTS_FAILED: "failed", pytest.ExitCode.INTERRUPTED: "failed"}
    answer.send((known.get(pytest.ExitCode(code), "broken"), first.name or f"pytest: {pytest.ExitCode(code).name}"))
