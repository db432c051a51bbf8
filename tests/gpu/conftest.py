"""Tests of what runs on a GPU: on a real one where torch finds it, otherwise on a fake one, in processes of their own.

A test that takes the fixture `gpu` makes the same calls either way. What it can assert differs, and `gpu.is_fake` says which:

- On the fake GPU kernels do nothing, so values mean nothing. Counts do: kernels started, waits, copies, contexts, graph nodes
  (`gpu.counted`). Errors of devices, dtypes, layouts and stream capture are those of a real GPU.
- On a real GPU values are asserted, and counts are not there.

Marks: `gpus(N)` needs N GPUs; `own_process` has a fake GPU's process for itself; `only_fake` is about counts alone, `only_real`
about values alone. What this machine's GPUs, or a torch without CUDA, cannot run is deselected, not skipped: nothing that could
be installed is missing. To run anything else on fake GPUs: `python -m tests.gpu.fake`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch

from slurm_lab.requirements import require
from tests.gpu.fake.build import compiler
from tests.gpu.fake.counts import Counted, is_fake
from tests.gpu.fake.processes import REPORTS, Processes, gpus_of, write_report

MARKS = (
    "gpus(number): how many GPUs a test needs; one without this mark",
    "own_process: has a process with fake GPUs for itself",
    "only_fake: runs on fake GPUs only",
    "only_real: runs on real GPUs only",
)


@dataclass(frozen=True)
class Gpu:
    """The GPU of a test.

    Attributes:
        is_fake: whether it only counts.
        device: the first GPU.
    """

    is_fake: bool
    device: torch.device

    def counted(self, device: int = 0) -> Counted:
        """Return a context in which a fake GPU counts."""
        assert self.is_fake, "only a fake GPU counts"
        return Counted(device)

    @contextlib.contextmanager
    def without_waiting(self) -> Iterator[None]:
        """Raise, within the block, where torch makes the host wait for the GPU; on a fake GPU count waits, too."""
        torch.cuda.set_sync_debug_mode("error")
        counted = self.counted() if self.is_fake else contextlib.nullcontext()
        try:
            with counted:
                yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
        if isinstance(counted, Counted):
            assert counted.syncs == 0, f"the host waited for the GPU {counted.syncs} times"


@pytest.fixture
def gpu() -> Iterator[Gpu]:
    """A GPU, real or fake; see the top of this file."""
    if is_fake():
        from tests.gpu.fake.libraries import replace_libraries

        replace_libraries()
    elif not num_real_gpus():
        require("a GPU or, for a fake one, a C compiler", [compiler()], "apt-get install gcc libc6-dev")
    yield Gpu(is_fake(), torch.device("cuda", 0))
    torch.cuda.set_sync_debug_mode("default")  # a test that failed may have left another one


@functools.cache
def num_real_gpus() -> int:
    """Return how many GPUs torch can use in this process, not counting fake ones."""
    return 0 if is_fake() or not torch.cuda.is_available() else torch.cuda.device_count()


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks, and what runs tests elsewhere."""
    for mark in MARKS:
        config.addinivalue_line("markers", mark)
    if not is_fake():
        config.pluginmanager.register(_Outside(Processes(config)))
    elif REPORTS in os.environ:
        config.pluginmanager.register(_Inside(config))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests that this machine's GPUs cannot run."""
    impossible = [item for item in items if _needs_gpu(item) and not _can_run(item)]
    if impossible:
        items[:] = [item for item in items if item not in impossible]
        config.hook.pytest_deselected(items=impossible)


def _needs_gpu(item: pytest.Item) -> bool:
    return "gpu" in getattr(item, "fixturenames", ())


def _can_run(item: pytest.Item) -> bool:
    if num_real_gpus():
        return not item.get_closest_marker("only_fake") and gpus_of(item) <= num_real_gpus()
    return torch.version.cuda is not None and not item.get_closest_marker("only_real")


class _Outside:
    """Where there is no GPU: tests that need one run in other processes."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        if not _needs_gpu(item) or num_real_gpus() or shutil.which(compiler()) is None:
            return None
        self._processes.run(item, item.session)
        item.session._setupstate.teardown_exact(nextitem)  # of the test before, which left what it shares with this one
        return True


class _Inside:
    """In such a process: reports go to the pytest that started it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        write_report(self._config, report)
