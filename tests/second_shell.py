"""What another login shell does while a workflow runs: looks, follows logs, completes names, cancels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from slurm_lab.main_process import wait_for
from slurm_lab.running import environment, run
from tests.workflow.project import copy_project

TRAIN = {"epochs": 500, "batch_size": 64, "lr": 0.05, "warmup_epochs": 0}
HEADINGS = [f"==> logs/distill/digits-resnet8-{method}-" for method in ("ce", "tet")]  # of `logs`


def config(*methods: str) -> dict[str, Any]:
    """One dataset and one student for each method, whose trainings take minutes."""
    student = {"arch": "resnet8", "time_steps": 2, "train": TRAIN}
    experiment = {"dataset": {"name": "digits"}, "student": student, "methods": {method: {} for method in methods}}
    return {"seeds": [0], "experiments": {"digits": experiment}}


class SecondShell:
    """Another shell in the working directory of a workflow."""

    def __init__(self, folder: Path, **variables: str) -> None:
        """Open it, in a new project."""
        self.folder = copy_project(folder)
        self._variables = variables
        self.configure("ce", "tet")

    def configure(self, *methods: str) -> None:
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config(*methods)))

    def call(self, *command: str) -> subprocess.CompletedProcess[str]:
        return run(self.folder, "spikedistill", *command, **self._variables)

    def tells(self, *command: str) -> str:
        done = self.call(*command)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def status(self) -> dict[str, Any]:
        return json.loads(self.tells("status", "--json").splitlines()[-1])

    def stage(self, method: str) -> dict[str, Any]:
        """The training of a method's student."""
        (found,) = (s for s in self.status()["stages"] if s["stage"] == "distill" and f"-{method}-" in s["name"])
        return found

    def wait_for(self, method: str, *states: str, epochs: int = 0, timeout_s: float = 420) -> dict[str, Any]:
        seen: list[dict[str, Any]] = []

        def is_there() -> bool:
            seen.append(self.stage(method))
            progress = seen[-1]["progress"] or {"epoch": 0}
            return seen[-1]["state"] in states and progress["epoch"] >= epochs

        wait_for(is_there, timeout_s, lambda: f"{method}: {states}; last seen {seen[-1]}")
        return seen[-1]

    def follow(self, *names: str, until: Sequence[str], timeout_s: float = 240) -> None:
        """Follow logs until all these texts appeared, in whatever order, then end that as Ctrl-C does."""
        log = self.folder / "followed"
        with log.open("wb") as out:
            follower = subprocess.Popen(
                ["spikedistill", "logs", "-f", *names],
                cwd=self.folder,
                env=environment(**self._variables),
                stdout=out,
                stderr=out,
            )
        try:
            wait_for(lambda: all(text in log.read_text() for text in until), timeout_s, lambda: f"{until} in {log.read_text()}")
        finally:
            follower.terminate()
            follower.wait(20)

    def offered(self, line: str) -> list[str]:
        """What Tab offers at the end of a line."""
        answer = self.folder / "answer"
        variables = {
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_IFS": "\n",
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
            "COMP_TYPE": "9",
        }
        variables |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(answer), **self._variables}
        run(self.folder, str(Path(sys.executable).parent / "spikedistill"), **variables)
        return answer.read_text().split("\n")


def ends_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
