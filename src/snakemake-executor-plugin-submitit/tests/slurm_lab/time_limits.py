"""Jobs that reach their time limits, which Slurm counts in minutes: they run in the background, beside all other tests.

`python -m slurm_lab.time_limits FOLDER PID` starts a cluster, runs two workflows to their ends and writes what became of them.
It ends with the process PID. Test sessions of several workers share one; whoever comes first starts it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from slurm_lab.cluster import running_cluster
from slurm_lab.main_process import wait_for
from slurm_lab.scenarios import Scenarios

LIMIT_S = 900


@dataclass(frozen=True)
class Ended:
    """What became of a workflow."""

    folder: Path
    status: int
    output: str


@dataclass(frozen=True)
class Background:
    """The background process of a test session."""

    folder: Path

    @classmethod
    def of_session(cls, factory: pytest.TempPathFactory) -> Background:
        worker = "PYTEST_XDIST_WORKER" in os.environ
        root, session = factory.getbasetemp(), os.getpid()
        if worker:
            root, session = root.parent, os.getppid()
        folder = root / "time_limits"
        try:
            folder.mkdir()
        except FileExistsError:
            return cls(folder)
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
        with (folder / "log").open("wb") as log:
            subprocess.Popen(
                [sys.executable, "-m", __name__, str(folder), str(session)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,
            )
        return cls(folder)

    def wait(self, name: str, timeout_s: float) -> Ended:
        """Wait until a workflow has ended."""
        verdict = self.folder / f"{name}.json"
        wait_for(lambda: verdict.exists() or (self.folder / "over").exists(), timeout_s, f"{name}; see {self.folder / 'log'}")
        assert verdict.exists(), (self.folder / "log").read_text(errors="replace")
        return Ended(self.folder / name, **json.loads(verdict.read_text()))


def _run(folder: Path) -> None:
    with running_cluster(num_nodes=1) as cluster, Scenarios(cluster, folder) as started:
        started.train("limit", copies="ab", runtime=1, starts=4)
        started.train("exhausted", runtime=1, extra="tasks_per_node=2, max_requeues=1", starts=9)
        todo = dict(started.mains)
        deadline = time.monotonic() + LIMIT_S
        while todo and time.monotonic() < deadline:
            for name in [name for name, main in todo.items() if main.process.poll() is not None]:
                main = todo.pop(name)
                new = folder / f"{name}.new"
                new.write_text(json.dumps({"status": main.process.returncode, "output": main.output}))
                new.rename(folder / f"{name}.json")
            time.sleep(0.5)


def _end_with(session: int) -> None:
    """End this process as Ctrl-C does when the test session is gone."""
    while Path(f"/proc/{session}").exists():
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGINT)


def main() -> None:
    folder, session = Path(sys.argv[1]), int(sys.argv[2])
    threading.Thread(target=_end_with, args=(session,), daemon=True).start()
    try:
        _run(folder)
    finally:
        if folder.exists():
            (folder / "over").touch()


if __name__ == "__main__":
    main()
